"""The one look of everything the commands print."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from jepalm.escaping import for_json, for_terminal

LABEL_WIDTH = 10
_ENDLESS = 1000
NARROW = 60
"""Columns below which long lines are folded beside their label."""

_LIVE = None if sys.stdout is not None and sys.stdout.isatty() else False
"""FORCE_COLOR colours plain lines; only a terminal gets a live display."""


class EscapingConsole(Console):
    """A console on which text from outside does nothing but show: the terminal's one output.

    Everything that is printed passes `render`; colours are added after it.
    """

    @property
    def size(self) -> ConsoleDimensions:
        """Columns and lines; of a dumb terminal as many as it has, too, and the usual ones for COLUMNS=0."""
        columns, lines = shutil.get_terminal_size((80, 25)) if self.is_dumb_terminal else super().size
        return ConsoleDimensions(self._width or columns or 80, self._height or lines or 25)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size

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
    """Print a tree for programs, as one JSON value; in ASCII where the output is not UTF-8."""
    text = for_json(tree, indent=indent)
    if "utf" not in (getattr(sys.stdout, "encoding", None) or "utf-8").lower():
        text = re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)
    typer.echo(text)


def complain(text: str) -> None:
    """Print one line on the standard error."""
    errors.print(Text(for_terminal(text).replace("\n", " ")))


def line(label: str, text: str) -> None:
    """Print one labelled line: the label padded to a column, then the text as it is.

    On a narrow terminal the text is folded beside its label; a command never is, so that it can be copied.
    """
    shown, folded = Text(f"{label:<{LABEL_WIDTH}}", style="bold"), text
    if _width() < NARROW and not text.startswith("jepalm ") and "\n" not in text:
        folded = _folded(text, LABEL_WIDTH).lstrip()
    console.print(shown, Text(folded), sep="")


def show_rows(rows: Sequence[Sequence[str]], labels: Sequence[str] = (), below: Sequence[str] = ()) -> None:
    """Print rows with their cells below each other.

    Where a row is wider than the terminal its first cell has a line of its own, and where the others are
    still too wide, each of them has.

    Args:
        rows: their cells.
        labels: of the columns; none are shown where there are none.
        below: a line for each row that stands under it.
    """
    table = [labels, *rows] if labels else list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    apart = bool(labels) and sum(widths) + 2 * len(widths) > _width() + 2
    each = apart and sum(widths[1:]) + 2 * len(widths) > _width() + 2
    for place, row in enumerate(table, -bool(labels)):
        if each and place >= 0:
            cells = zip(labels[1:], row[1:], strict=True)
            lines = [row[0], *(f"  {label} {cell}" for label, cell in cells if cell)]
        elif each:
            continue
        elif apart:
            lines = [row[0], "  " + "  ".join(map(str.ljust, row[1:], widths[1:])).rstrip()]
        else:
            lines = ["  ".join(map(str.ljust, row, widths)).rstrip()]
        console.print(Text("\n".join(lines), style="bold" if place < 0 else ""))
        if below and place >= 0:
            console.print(Text(_folded(below[place], 4)))


def _folded(text: str, indent: int) -> str:
    """A text on as many lines as the terminal needs, each behind so many blanks."""
    margin = " " * indent
    width = max(_width(), indent + 10)
    return textwrap.fill(text, width, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)


def _width() -> int:
    """Columns of the terminal; elsewhere as many as may be, unless COLUMNS says how many."""
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    return console.width if on_terminal or "COLUMNS" in os.environ else _ENDLESS


def on_terminal() -> bool:
    """Whether there is someone to ask."""
    return sys.stdin is not None and sys.stdin.isatty()
