"""A report on disk: the page, the Markdown, the plots as PNG, the data as CSV."""

from __future__ import annotations

import json
from pathlib import Path

from jepalm.atomic import sweep_temporary, write_atomically
from jepalm.errors import JepalmError
from jepalm.report.analysis.sweep import SweepTable
from jepalm.report.plots.catalogue import ALL_PLOTS
from jepalm.report.plots.compare import COMPARISON_PLOTS
from jepalm.report.plots.draw import svg_file
from jepalm.report.plots.frontier import NAME as FRONTIER
from jepalm.report.plots.sweep import MEANS
from jepalm.report.render.blocks import Document
from jepalm.report.render.csv_files import sweep_csv
from jepalm.report.render.markdown import markdown
from jepalm.report.render.page import page
from jepalm.report.render.several import sweep_document

PAGE = "report.html"


def check_writable(folder: Path) -> None:
    """Make the folder, so that a fault is found before the plots are drawn, and sweep what a kill left.

    Raises:
        JepalmError: it cannot be made or written.
    """
    try:
        for part in (folder / "plots", folder / "data"):
            part.mkdir(parents=True, exist_ok=True)
        for part in (folder, folder / "plots", folder / "data"):
            sweep_temporary(part)
    except OSError as error:
        raise _cannot_write(folder, error) from None


def write(document: Document, folder: Path) -> Path:
    """Write the report of one run or of several, and return the page's path.

    Raises:
        JepalmError: the folder cannot be written.
    """
    check_writable(folder)
    plots = {plot.name: plot for plot in document.plots}
    try:
        for name in {*ALL_PLOTS, *COMPARISON_PLOTS}.difference(plots):
            (folder / "plots" / f"{name}.png").unlink(missing_ok=True)
        (folder / "plots" / f"{FRONTIER}.svg").unlink(missing_ok=True)
        for name, plot in plots.items():
            write_atomically(folder / "plots" / f"{name}.png", plot.png)
        if FRONTIER in plots:
            write_atomically(folder / "plots" / f"{FRONTIER}.svg", svg_file(plots[FRONTIER].svg))
        for name, text in document.tables.items():
            write_atomically(folder / "data" / name, text)
        write_atomically(folder / "report.md", markdown(document))
        write_atomically(folder / PAGE, page(document))
    except OSError as error:
        raise _cannot_write(folder, error) from None
    return folder / PAGE


def write_sweep(table: SweepTable, folder: Path) -> Path:
    """Write a sweep's table as `sweep.csv`, `.json`, `.html`, `.svg` and `.png`, and return the page's path.

    Raises:
        JepalmError: it cannot be written.
    """
    tree = json.dumps(table.as_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    document = sweep_document(table)
    try:
        sweep_temporary(folder)
        write_atomically(folder / "sweep.csv", sweep_csv(table))
        write_atomically(folder / "sweep.json", tree)
        write_atomically(folder / "sweep.html", page(document))
        for kind in ("svg", "png"):
            (folder / f"{MEANS}.{kind}").unlink(missing_ok=True)
        for plot in document.plots:
            if plot.name == MEANS:
                write_atomically(folder / f"{MEANS}.svg", svg_file(plot.svg))
                write_atomically(folder / f"{MEANS}.png", plot.png)
    except OSError as error:
        raise JepalmError(
            f"cannot write the table under {folder}: {error.strerror}", "--run-dir moves it"
        ) from None
    return folder / "sweep.html"


def _cannot_write(folder: Path, error: OSError) -> JepalmError:
    return JepalmError(f"cannot write the report under {folder}: {error.strerror}", "--out FOLDER moves it")
