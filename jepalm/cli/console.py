"""The one look of everything the commands print."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

LABEL_WIDTH = 10

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def line(label: str, text: str) -> None:
    """Print one labelled line: the label padded to a column, then the text as it is."""
    console.print(Text(f"{label:<{LABEL_WIDTH}}", style="bold"), Text(text), sep="")


def on_terminal() -> bool:
    """Whether there is someone to ask."""
    return sys.stdin.isatty()
