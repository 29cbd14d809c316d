"""Which figures a run can have, and their order."""

from __future__ import annotations

from collections.abc import Callable

from jepalm.report.plots.article import composition_bars, embedding_by_epoch, length, reconstruction
from jepalm.report.plots.draw import Art
from jepalm.report.plots.evaluation import nll_by_position
from jepalm.report.plots.frontier import frontier
from jepalm.report.plots.run import (
    composition_over_time,
    curves,
    embedding_health,
    optimisation,
    r2,
    text_quality,
)
from jepalm.report.plots.weighted_terms import cosines_over_time, weights_over_time
from jepalm.report.read import RunRecord

RUN_FIGURES = (
    "reconstruction",
    "embedding",
    "length",
    "composition",
    "curves",
    "composition_over_time",
    "weights",
    "gradient_cosine",
    "r2",
    "text_quality",
    "embedding_health",
    "optimisation",
    "frontier",
    "nll_by_position",
)
"""Names of the figures that a run can have."""


def article_figures(record: RunRecord) -> list[Art]:
    """Draw the article's plots in its own form; those without data are left out."""
    return _drawn(record, [reconstruction, embedding_by_epoch, length, composition_bars])


def run_figures(record: RunRecord) -> list[Art]:
    """Draw the rest: curves, composition, weights, gradients, R2, text, embedding health, optimisation."""
    painters = [curves, composition_over_time, weights_over_time, cosines_over_time]
    return _drawn(record, [*painters, r2, text_quality, embedding_health, optimisation])


def evaluation_figures(record: RunRecord) -> list[Art]:
    """Draw what `jepalm evaluate` measured."""
    return _drawn(record, [frontier, nll_by_position])


def _drawn(record: RunRecord, painters: list[Callable[[RunRecord], Art | None]]) -> list[Art]:
    return [art for paint in painters if (art := paint(record)) is not None]
