"""A sweep's table for the terminal and on disk: CSV, JSON and one self-contained page."""

from __future__ import annotations

import json
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jepalm.errors import JepalmError
from jepalm.numbers import three
from jepalm.report.analysis.sweep import FigureTable, SweepTable, numbers_of
from jepalm.report.plots.draw import svg_file
from jepalm.report.plots.sweep import MEANS, differences, means
from jepalm.report.render.page import sweep_page
from jepalm.report.render.tables import to_csv
from jepalm.run import write_atomically

CSV, JSON, PAGE = "sweep.csv", "sweep.json", "sweep.html"


def sweep_view(table: SweepTable) -> RenderableType:
    """Return one table, a section a figure, and the notes under it."""
    compared = len(table.rows) > 1
    uneven = any(line.values.keys() != {*table.seeds} for found in table.figures for line in found.lines)
    titles = ["row", "mean ± sd", *(["n"] if uneven else [])]
    titles += ["difference", "[low, high]", "p"] if compared else []
    sections = [_cells(found, uneven, compared) for found in table.figures]
    widths = [
        max(map(len, column))
        for column in zip(titles, *(row for rows in sections for row in rows), strict=True)
    ]
    parts: list[RenderableType] = []
    for found, rows in zip(table.figures, sections, strict=True):
        shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for place, (title, width) in enumerate(zip(titles, widths, strict=True)):
            shown.add_column(
                Text("" if place == 0 else title),
                min_width=width,
                justify="right" if place else "left",
                no_wrap=place > 0,
                overflow="fold",
            )
        for row in rows:
            shown.add_row(*(Text(cell) for cell in row))
        parts += [Text(found.figure.title, style="bold"), shown]
    return Group(*parts, *(Text(note) for note in table.notes))


def _cells(found: FigureTable, uneven: bool, compared: bool) -> list[list[str]]:
    rows = []
    for line in found.lines:
        tests = [line.difference_text, line.interval_text, line.p_text] if compared else []
        rows.append([line.row, line.mean_text, *([line.n_text] if uneven else []), *tests])
    blank = [""] * (uneven + 3 * compared)
    return rows + [[f"({name})", three(value), *blank] for name, value in found.figure.controls.items()]


def sweep_csv(table: SweepTable) -> str:
    """Return one line a row and figure, at full precision, with the value of every seed."""
    names: list[str] | None = None
    lines = []
    for found in table.figures:
        for line in found.lines:
            numbers = numbers_of(line)
            names = list(numbers)
            blank = ["" if value is None else value for value in numbers.values()]
            seeds = [line.values.get(seed, "") for seed in table.seeds]
            lines.append([line.row, found.figure.name, found.figure.unit, *blank, *seeds])
    return to_csv(["row", "figure", "unit", *(names or []), *(f"seed_{seed}" for seed in table.seeds)], lines)


def write_sweep(table: SweepTable, folder: Path) -> Path:
    """Write CSV, JSON, page and figure (SVG, PNG) into a folder and return the page's path.

    Raises:
        JepalmError: it cannot be written.
    """
    tree = json.dumps(table.as_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    every, art = means(table), differences(table)
    try:
        write_atomically(folder / CSV, sweep_csv(table))
        write_atomically(folder / JSON, tree)
        write_atomically(folder / PAGE, sweep_page(table, every, art))
        for kind in ("svg", "png"):
            (folder / f"{MEANS}.{kind}").unlink(missing_ok=True)
        if every is not None:
            write_atomically(folder / f"{MEANS}.svg", svg_file(every.svg))
            (folder / f"{MEANS}.png").write_bytes(every.png)
    except OSError as error:
        raise JepalmError(
            f"cannot write the table under {folder}: {error.strerror}", "--run-dir moves it"
        ) from None
    return folder / PAGE
