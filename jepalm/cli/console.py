"""The one look of everything the commands print."""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from jepalm.escaping import for_json, for_terminal

LABEL_WIDTH = 10
NARROW = 60
"""Columns below which long lines are folded beside their label."""

_IN_ASCII = {
    "·": "-",
    "–": "-",
    "—": "-",
    "−": "-",
    "…": "...",
    "±": "+/-",
    "×": "x",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "✓": "ok",
    "✔": "ok",
    "✘": "x",
    "²": "2",
    "’": "'",
    "⏎": "\\n",
    "␍": "\\r",
    "⇥": "\\t",
    **dict(zip("▁▂▃▄▅▆▇█", "_.:-=+*#", strict=True)),
}
"""What stands for the signs that the commands print where an encoding lacks them."""
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
    """Print a tree for programs, as one JSON value; in ASCII where the output is not UTF-8."""
    text = for_json(tree, indent=indent)
    if "utf" not in (getattr(sys.stdout, "encoding", None) or "utf-8").lower():
        text = re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)
    typer.echo(text)


def complain(text: str) -> None:
    """Print one line on the standard error."""
    errors.print(Text(for_terminal(text).replace("\n", " ")))


def print_anywhere() -> None:
    """Let stdout and stderr replace what their encoding cannot show, whatever it is."""
    codecs.register_error("plainly", _plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plainly")


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Signs that the commands use in ASCII, a question mark for all else."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(character, "?") for character in found), error.end


def line(label: str, text: str) -> None:
    """Print one labelled line: the label padded to a column, then the text as it is.

    On a narrow terminal the text is folded beside its label; a command never is, so that it can be copied.
    """
    shown = Text(f"{label:<{LABEL_WIDTH}}", style="bold")
    if _width() >= NARROW or text.startswith("jepalm "):
        console.print(shown, Text(text), sep="")
        return
    beside = Table.grid()
    beside.add_column(width=LABEL_WIDTH, no_wrap=True)
    beside.add_column(overflow="fold")
    beside.add_row(shown, Text(text))
    console.print(beside, soft_wrap=False)


def show_rows(rows: Sequence[Sequence[str]], labels: Sequence[str] = (), below: Sequence[str] = ()) -> None:
    """Print rows with their cells below each other; one cell a line where the terminal is too narrow.

    Args:
        rows: their cells.
        labels: of the columns; none are shown where there are none.
        below: a line for each row that stands under it.
    """
    table = [labels, *rows] if labels else list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    aligned = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
    if labels and sum(widths) + 2 * len(widths) > _width():
        aligned = [
            "\n".join(
                [
                    row[0],
                    *(f"  {label} {cell}" for label, cell in zip(labels[1:], row[1:], strict=True) if cell),
                ]
            )
            for row in rows
        ]
    elif labels:
        console.print(Text(aligned.pop(0), style="bold"))
    for place, text in enumerate(aligned):
        console.print(Text(text))
        if below:
            console.print(Text(f"    {below[place]}"))


def _width() -> int:
    """Columns of the terminal; elsewhere as many as may be, unless COLUMNS says how many."""
    return console.width if console.is_terminal or "COLUMNS" in os.environ else sys.maxsize


def on_terminal() -> bool:
    """Whether there is someone to ask."""
    return sys.stdin is not None and sys.stdin.isatty()
