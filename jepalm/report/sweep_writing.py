"""A sweep's table for the terminal and on disk: CSV, JSON and one self-contained page."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.axes import Axes
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jepalm.errors import JepalmError
from jepalm.numbers import three
from jepalm.report.draw import PALETTE, Art, canvas, finish, panels_of
from jepalm.report.page import sweep_page
from jepalm.report.sweep import FigureTable, SweepTable, numbers_of
from jepalm.report.tables import to_csv
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
    """Write CSV, JSON and page into a folder and return the page's path.

    Raises:
        JepalmError: it cannot be written.
    """
    tree = json.dumps(table.as_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    art = _differences(table)
    try:
        write_atomically(folder / CSV, sweep_csv(table))
        write_atomically(folder / JSON, tree)
        write_atomically(folder / PAGE, sweep_page(table, art))
    except OSError as error:
        raise JepalmError(
            f"cannot write the table under {folder}: {error.strerror}", "--run-dir moves it"
        ) from None
    return folder / PAGE


def _differences(table: SweepTable) -> Art | None:
    """Draw each row's difference with its interval, a panel a figure."""
    kept = [found for found in table.figures if any(line.difference for line in found.lines)]
    if not kept:
        return None
    height = 0.24 * (len(table.rows) - 1) + 0.8
    with canvas(9.6, height * -(-len(kept) // 2) + 0.6) as figure:
        for axes, found in zip(panels_of(figure, len(kept)), kept, strict=True):
            _draw(axes, found)
        return finish(
            figure,
            "differences",
            f"Difference from {table.reference}, seed by seed",
            "Dot: mean over seeds. Bar: its 95 % interval (paired t-test). Filled: it leaves 0 out.",
        )


def _draw(axes: Axes, found: FigureTable) -> None:
    lines = [(line.row, line.difference) for line in reversed(found.lines) if line.difference is not None]
    axes.axvline(0, color=PALETTE["muted"][0], linewidth=1)
    for place, (_, difference) in enumerate(lines):
        ink = PALETTE["reconstruction" if difference.clear else "control"][0]
        if difference.low is not None and difference.high is not None:
            axes.plot([difference.low, difference.high], [place, place], color=ink)
        face = ink if difference.clear else PALETTE["paper"][0]
        axes.plot([difference.mean], [place], marker="o", color=ink, markerfacecolor=face, linestyle="")
    axes.set_yticks(range(len(lines)), [row for row, _ in lines])
    axes.set_title(found.figure.title)
