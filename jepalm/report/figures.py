"""Which figures a run can have, and their order."""

from __future__ import annotations

from collections.abc import Callable

from jepalm.report.draw import Art
from jepalm.report.figures_article import composition_bars, embedding_by_epoch, length, reconstruction
from jepalm.report.figures_run import (
    composition_over_time,
    curves,
    embedding_health,
    optimisation,
    r2,
    text_quality,
)
from jepalm.report.read import RunRecord

RUN_FIGURES = (
    "reconstruction",
    "embedding",
    "length",
    "composition",
    "curves",
    "composition_over_time",
    "r2",
    "text_quality",
    "embedding_health",
    "optimisation",
)
"""Names of the figures that a run can have."""


def article_figures(record: RunRecord) -> list[Art]:
    """Draw the article's plots in its own form; those without data are left out."""
    return _drawn(record, [reconstruction, embedding_by_epoch, length, composition_bars])


def run_figures(record: RunRecord) -> list[Art]:
    """Draw the rest: curves, composition over time, R2, accuracy, embedding health, optimisation."""
    return _drawn(record, [curves, composition_over_time, r2, text_quality, embedding_health, optimisation])


def _drawn(record: RunRecord, painters: list[Callable[[RunRecord], Art | None]]) -> list[Art]:
    return [art for paint in painters if (art := paint(record)) is not None]
