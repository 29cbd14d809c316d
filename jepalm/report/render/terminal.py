"""The blocks of a report for terminals of any width."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from jepalm.report.render.blocks import (
    Block,
    Cell,
    Document,
    Facts,
    Heading,
    Paragraph,
    Table,
    Verdicts,
    as_cell,
    visible,
)

MOST_COLUMNS = 6
"""Columns of numbers that fit beside the names of metrics, at 80 characters."""
_STYLES = {"": "", "good": "green", "warning": "yellow", "note": "cyan"}


def view(document: Document) -> RenderableType:
    """Return what a terminal shows of a report."""
    return Group(
        Text(document.lead, style="bold", overflow="fold"), blocks_view(document.shown_in("terminal"))
    )


def blocks_view(blocks: Sequence[Block]) -> RenderableType:
    """Return blocks below each other, with a blank line where a section begins that has something to show."""
    parts: list[RenderableType] = []
    begins = False
    shown: list[RenderableType]
    for block in blocks:
        if isinstance(block, Heading):
            begins = True
            shown = [Text(block.text, style="bold")] if block.level == 3 else []
        else:
            shown = _shown(block)
        if shown and (begins or isinstance(block, Table)):
            parts.append(Text())
            begins = False
        parts += shown
    return Group(*parts)


def _shown(block: Block) -> list[RenderableType]:
    match block:
        case Paragraph(text, muted):
            return [Text(text, style="dim" if muted else "")]
        case Facts(rows):
            return [_labelled([(label, _text(as_cell(value))) for label, value in rows])]
        case Verdicts(verdicts):
            lines = [Text(verdict.sign, style=_STYLES[verdict.level]) for verdict in verdicts]
            for line, verdict in zip(lines, verdicts, strict=True):
                line.append(f" {verdict.text}", style="default")
            return [_labelled([("" if k else "verdicts", line) for k, line in enumerate(lines)])]
        case Table():
            caption = [Text(block.caption)] if block.caption else []
            first, *further = map(_grid, _parts(block))
            return [*caption, first, *(part for grid in further for part in (Text(), grid))]
    return []


def _labelled(rows: list[tuple[str, Text]]) -> RenderableType:
    grid = Grid.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=10, no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for label, text in rows:
        grid.add_row(label, text)
    return grid


def _parts(table: Table) -> list[Table]:
    """The columns of numbers that a terminal has no room for beside each other, below each other.

    A further part has only the rows that have something in it.
    """
    words, width = table.text_columns, len(table.header)
    if width - words <= MOST_COLUMNS:
        return [table]
    parts = []
    for start in range(words, width, MOST_COLUMNS):
        places = [*range(words), *range(start, min(width, start + MOST_COLUMNS))]
        rows = [row if len(row) == 1 else [row[k] for k in places] for row in table.rows]
        if start > words:
            rows = [[as_cell(row[0]).text, *row[1:]] for row in rows if len(row) == 1 or any(row[words:])]
        rows = [
            row for row, after in zip(rows, [*rows[1:], [""]], strict=True) if len(row) > 1 or len(after) > 1
        ]
        parts.append(Table([table.header[k] for k in places], rows, text_columns=words))
    return parts


def _grid(table: Table) -> RenderableType:
    grid = Grid(
        box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", show_header=bool(table.header)
    )
    width = len(table.header) or max(map(len, table.rows))
    for place in range(width):
        title = as_cell(table.header[place]).text if table.header else ""
        number = place >= table.text_columns
        grid.add_column(
            Text(title), justify="right" if number else "left", overflow="fold", no_wrap=number and width <= 8
        )
    for row in table.rows:
        if len(row) == 1 and width > 1:
            if grid.row_count:
                grid.add_row()
            grid.add_row(Text(as_cell(row[0]).text, style="bold"))
        else:
            grid.add_row(*(_text(as_cell(cell)) for cell in row))
    return grid


def _text(cell: Cell) -> Text:
    text = Text(visible(cell.text) if cell.verbatim else cell.text, style=_STYLES[cell.level])
    for line in cell.note.splitlines():
        text.append(f"\n  {line}", style="not bold dim")
    return text
