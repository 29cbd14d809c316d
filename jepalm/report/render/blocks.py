"""What a report shows: one list of blocks, which terminal, Markdown and page each know how to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from jepalm.report.plots.draw import Plot
from jepalm.report.rules.verdict import Verdict

Where = Literal["everywhere", "terminal", "files"]
"""Where a block is shown; `files` are the page and the Markdown, which have room for everything."""

_MARKS = {" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"}


@dataclass(frozen=True)
class Heading:
    """Begins a section, or a part of one at level 3. A terminal shows no headings of level 2."""

    text: str
    level: Literal[2, 3] = 2


@dataclass(frozen=True)
class Paragraph:
    """Plain text; muted where it is only beside the point."""

    text: str
    muted: bool = False
    where: Where = "everywhere"


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what it says.
        note: under it, in small print; may have several lines.
        level: colours the text.
        verbatim: text of a corpus or model, whose whitespace is made visible.
    """

    text: str
    note: str = ""
    level: Literal["", "good", "warning", "note"] = ""
    verbatim: bool = False


Cells = Sequence[str | Cell]
"""A row of a table."""


@dataclass(frozen=True)
class Facts:
    """Labels with what they stand for."""

    rows: Sequence[tuple[str, str | Cell]]
    where: Where = "everywhere"


@dataclass(frozen=True)
class Table:
    """Rows under a header. A row of a single cell is the title of those after it.

    Attributes:
        header: empty where none is needed.
        rows: of as many cells as the header, or one.
        caption: what was measured on what.
        text_columns: so many columns from the left hold words, the others numbers.
        where: it is shown.
    """

    header: Cells
    rows: Sequence[Cells]
    caption: str = ""
    text_columns: int = 1
    where: Where = "everywhere"


@dataclass(frozen=True)
class Verdicts:
    """What is wrong with a run, a line each."""

    verdicts: Sequence[Verdict]


@dataclass(frozen=True)
class Fold:
    """Blocks that a page opens on a click; a terminal leaves them out."""

    title: str
    blocks: Sequence[Block]


Block = Heading | Paragraph | Facts | Table | Verdicts | Plot | Fold


@dataclass(frozen=True)
class Document:
    """A whole report.

    Attributes:
        title: of the page.
        lead: the report in one line.
        blocks: all that is shown, in order.
        foot: where to read on.
        tables: text of each CSV file by its name.
    """

    title: str
    lead: str
    blocks: Sequence[Block]
    foot: str
    tables: Mapping[str, str] = field(default_factory=dict)

    @property
    def plots(self) -> list[Plot]:
        """The plots among the blocks."""
        return [block for block in self.blocks if isinstance(block, Plot)]

    def shown_in(self, where: Where) -> list[Block]:
        """Return the blocks that are shown there."""
        return [block for block in self.blocks if getattr(block, "where", where) in ("everywhere", where)]


def as_cell(cell: str | Cell) -> Cell:
    """Return a cell of plain text as a `Cell`."""
    return cell if isinstance(cell, Cell) else Cell(cell)


def mark_whitespace(text: str) -> list[tuple[str, bool]]:
    """Split text into (piece, is a mark): blanks and control characters become visible marks."""
    pieces: list[tuple[str, bool]] = []
    for character in text:
        mark = _MARKS.get(character)
        if mark is None and ord(character) < 32:
            mark = chr(0x2400 + ord(character))
        piece, marked = (mark, True) if mark is not None else (character, False)
        if pieces and pieces[-1][1] == marked:
            pieces[-1] = (pieces[-1][0] + piece, marked)
        else:
            pieces.append((piece, marked))
    return pieces


def visible(text: str) -> str:
    """Return text on one line with its whitespace shown as marks."""
    return "".join(piece for piece, _ in mark_whitespace(text))
