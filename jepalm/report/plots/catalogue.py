"""Which plots a run can have, by name and in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jepalm.report.analysis.frontier import ALONE
from jepalm.report.plots import article, run
from jepalm.report.plots.draw import Plot
from jepalm.report.plots.evaluation import nll_by_position
from jepalm.report.plots.frontier import frontier
from jepalm.report.read import RunRecord

Painters = Mapping[str, Callable[[RunRecord], Plot | None]]

ARTICLE_PLOTS: Painters = {
    "reconstruction": article.reconstruction,
    "embedding": article.embedding_by_epoch,
    "length": article.length,
    "composition": article.composition_bars,
}
"""The article's plots in its own form."""
RUN_PLOTS: Painters = {
    "curves": run.curves,
    "composition_over_time": run.composition_over_time,
    "weights": run.weights_over_time,
    "gradient_cosine": run.cosines_over_time,
    "r2": run.r2,
    "text_quality": run.text_quality,
    "embedding_health": run.embedding_health,
    "optimisation": run.optimisation,
}
EVALUATION_PLOTS: Painters = {
    "frontier": lambda record: frontier({ALONE: record}),
    "nll_by_position": nll_by_position,
}
"""Of what `jepalm evaluate` measured."""
ALL_PLOTS: Painters = {**EVALUATION_PLOTS, **ARTICLE_PLOTS, **RUN_PLOTS}
"""In the order of the report."""


def draw(record: RunRecord, painters: Painters = ALL_PLOTS) -> list[Plot]:
    """Draw plots of a run; those without data are left out."""
    return [plot for paint in painters.values() if (plot := paint(record)) is not None]
