"""The one look of everything the commands print."""

from __future__ import annotations

import io
import sys

from rich.console import Console
from rich.text import Text

LABEL_WIDTH = 10

_LIVE = None if sys.stdout is not None and sys.stdout.isatty() else False
"""FORCE_COLOR colours plain lines; only a terminal gets a live display."""

console = Console(highlight=False, soft_wrap=True, force_interactive=_LIVE)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def print_anywhere() -> None:
    """Let stdout and stderr replace what their encoding cannot show, whatever it is."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def line(label: str, text: str) -> None:
    """Print one labelled line: the label padded to a column, then the text as it is."""
    console.print(Text(f"{label:<{LABEL_WIDTH}}", style="bold"), Text(text), sep="")


def on_terminal() -> bool:
    """Whether there is someone to ask."""
    return sys.stdin.isatty()
