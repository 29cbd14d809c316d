"""A report on disk: the page, the Markdown, the figures as PNG, the data as CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jepalm.errors import JepalmError
from jepalm.report.analysis.compare import Comparison
from jepalm.report.analysis.summary import Summary
from jepalm.report.plots.catalogue import RUN_FIGURES, article_figures, evaluation_figures, run_figures
from jepalm.report.plots.compare import COMPARISON_FIGURES, comparison_figures
from jepalm.report.plots.draw import Art, svg_file
from jepalm.report.plots.frontier import NAME as FRONTIER
from jepalm.report.render.markdown import comparison_markdown, run_markdown
from jepalm.report.render.page import comparison_page, run_page
from jepalm.report.render.tables import comparison_csv, csv_files
from jepalm.run import write_atomically

PAGE = "report.html"


def write_report(summary: Summary, folder: Path) -> Path:
    """Write the report of one run and return the page's path.

    Raises:
        JepalmError: the folder cannot be written.
    """
    article, others = article_figures(summary.record), run_figures(summary.record)
    evaluated = evaluation_figures(summary.record)
    return _write(
        folder,
        page=run_page(summary, article, others, evaluated),
        markdown=run_markdown(summary, article + others + evaluated),
        figures=article + others + evaluated,
        tables=csv_files(summary),
    )


def write_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write the comparison of several runs and return the page's path.

    Raises:
        JepalmError: the folder cannot be written.
    """
    figures = comparison_figures(comparison)
    return _write(
        folder,
        page=comparison_page(comparison, figures),
        markdown=comparison_markdown(comparison, figures),
        figures=figures,
        tables=comparison_csv(comparison),
    )


def check_writable(folder: Path) -> None:
    """Make the folder, so that a fault is told before the figures are drawn.

    Raises:
        JepalmError: it cannot be made or written.
    """
    try:
        for part in (folder / "figures", folder / "data"):
            part.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error) from None


def _write(folder: Path, page: str, markdown: str, figures: list[Art], tables: Mapping[str, str]) -> Path:
    check_writable(folder)
    try:
        for name in {*RUN_FIGURES, *COMPARISON_FIGURES}.difference(art.name for art in figures):
            (folder / "figures" / f"{name}.png").unlink(missing_ok=True)
        (folder / "figures" / f"{FRONTIER}.svg").unlink(missing_ok=True)
        for art in figures:
            if art.name == FRONTIER:
                write_atomically(folder / "figures" / f"{art.name}.svg", svg_file(art.svg))
            (folder / "figures" / f"{art.name}.png").write_bytes(art.png)
        for name, text in tables.items():
            write_atomically(folder / "data" / name, text)
        write_atomically(folder / "report.md", markdown)
        write_atomically(folder / PAGE, page)
    except OSError as error:
        raise _cannot_write(folder, error) from None
    return folder / PAGE


def _cannot_write(folder: Path, error: OSError) -> JepalmError:
    return JepalmError(f"cannot write the report under {folder}: {error.strerror}", "--out FOLDER moves it")
