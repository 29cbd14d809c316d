"""The blocks of a report as Markdown, for repositories and issues."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from jepalm.escaping import for_terminal
from jepalm.report.plots.draw import Plot
from jepalm.report.render.blocks import (
    Block,
    Cell,
    Document,
    Facts,
    Fold,
    Heading,
    Paragraph,
    Table,
    Verdicts,
    as_cell,
    visible,
)


def markdown(document: Document) -> str:
    """Return a report as Markdown; its plots lie beside it, in `plots/`."""
    head = [f"# {escaped(document.title)}", escaped(document.lead)]
    whole = "\n\n".join([*head, *(shown(block) for block in document.shown_in("files"))]) + "\n"
    return for_terminal(whole)  # Markdown is read in terminals too


def escaped(text: str) -> str:
    """Escape what Markdown or HTML would act on."""
    safe = html.escape(text, quote=False).replace("\\", "\\\\").replace("\n", " ")
    return re.sub(r"([|*`_\[\]])", r"\\\1", safe)


def shown(block: Block) -> str:
    """Return one block as Markdown."""
    match block:
        case Heading(text, level):
            return f"{'#' * level} {escaped(text)}"
        case Paragraph(text):
            return escaped(text)
        case Facts(rows):
            return _table(["", ""], rows)
        case Table(header, rows, caption):
            width = len(header) or max(map(len, rows))
            titled = [[Cell(as_cell(row[0]).text, level="note")] if len(row) == 1 else row for row in rows]
            whole = _table(header or [""] * width, [[*row, *[""] * (width - len(row))] for row in titled])
            return f"{escaped(caption)}\n\n{whole}" if caption else whole
        case Verdicts(verdicts):
            return "\n".join(f"- {verdict.sign} {escaped(verdict.text)}" for verdict in verdicts)
        case Plot(name, title, caption):
            return f"![{escaped(title)}](plots/{name}.png)\n\n{escaped(caption)}"
        case Fold(title, blocks):
            return "\n\n".join([f"### {escaped(title)}", *(shown(inner) for inner in blocks)])


def _table(header: Sequence[str | Cell], rows: Sequence[Sequence[str | Cell]]) -> str:
    lines = [[_cell(cell) for cell in header], ["---"] * len(header)]
    lines += [[_cell(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(given: str | Cell) -> str:
    cell = as_cell(given)
    text = escaped(cell.text)
    if cell.verbatim:
        code = html.escape(visible(cell.text), quote=False)
        code = re.sub(r"[\\`*_|~]", lambda found: f"&#{ord(found[0])};", code)
        text = f"<code>{code}</code>"
    elif cell.level:
        text = f"**{text}**"
    return "<br>".join([text, *map(escaped, cell.note.splitlines())])
