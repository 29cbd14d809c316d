"""The one look of everything the commands print."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from jepalm.escaping import for_json, for_terminal

LABEL_WIDTH = 10

_LIVE = None if sys.stdout is not None and sys.stdout.isatty() else False
"""FORCE_COLOR colours plain lines; only a terminal gets a live display."""


class EscapingConsole(Console):
    """A console on which text from outside does nothing but show: the terminal's one output.

    Everything that is printed passes `render`; colours are added after it.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render, with what acts on a terminal as visible signs."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(for_terminal(segment.text), segment.style)


console = EscapingConsole(highlight=False, soft_wrap=True, force_interactive=_LIVE)
errors = EscapingConsole(stderr=True, highlight=False, soft_wrap=True)


def print_json(tree: Any, *, indent: int | None = None) -> None:
    """Print a tree for programs, as one JSON value."""
    typer.echo(for_json(tree, indent=indent))


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
