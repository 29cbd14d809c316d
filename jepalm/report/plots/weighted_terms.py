"""Figures of who weighted terms how hard on what is learned: weights, and cosines between gradients."""

from __future__ import annotations

from jepalm.report.analysis.phases import phase_marks
from jepalm.report.analysis.run import CURVE_ROWS, moving_average, shares, weighting
from jepalm.report.analysis.weighted_terms import (
    gradient_cosines,
    limit_reached,
    weight_limits,
    weights,
    weights_move,
)
from jepalm.report.plots.draw import Art, canvas, colour, finish, line, run_style, set_log, step_axis
from jepalm.report.read import RunRecord


def weights_over_time(record: RunRecord) -> Art | None:
    """Weight of each term with the limits it reached, and the share of the loss it leads to."""
    if not weights_move(record):
        return None
    found, limits, marks = weights(record), weight_limits(record), phase_marks(record)
    with canvas() as figure:
        left, right = figure.subplots(1, 2)
        for term, series in found.items():
            line(left, series.step, series.value, color=colour(term), label=term)
        reached = {
            limit.value: limit.name
            for term, series in found.items()
            for limit in limits.get(term, [])
            if len(limit_reached(series, limit))
        }
        for index, (value, name) in enumerate(reached.items()):
            label = None if index else name
            left.axhline(value, color=colour("control"), linestyle=":", linewidth=1, label=label)
        set_log(left, *(series.value[series.value != 0] for series in found.values()))
        left.set_title("weight")
        for term, series in shares(record).items():
            line(right, series.step, 100 * series.value, color=colour(term), label=term)
        right.set_title("effective share: weighted term over the loss")
        right.set_ylabel("share of the loss (%)")
        right.set_ylim(0, 103)
        for axes in (left, right):
            step_axis(axes, marks=marks)
        if left.get_yscale() == "linear":
            left.set_ylim(bottom=0)
        left.legend()
        return finish(
            figure,
            "weights",
            f"Weights over time (train, weighting {weighting(record)})",
            "Left, what each term is multiplied by; dotted, the end of the range that the weighting leaves a "
            "weight, where it was reached. Right, what came of it: a weight that grows while the share falls "
            "only follows a term that goes to zero.",
        )


def cosines_over_time(record: RunRecord) -> Art | None:
    """Cosine between the gradients on the encoder of each pair of terms that both reach it."""
    found = gradient_cosines(record)
    if not found:
        return None
    with canvas() as figure:
        axes = figure.subplots()
        axes.axhline(0, color=colour("ink"), linewidth=1, linestyle=":")
        for index, (pair, series) in enumerate(found.items()):
            style = run_style(index)
            smooth = moving_average(series.value, max(1, len(series) // CURVE_ROWS))
            line(axes, series.step, series.value, color=style["color"], alpha=0.3, linewidth=0.8)
            line(axes, series.step, smooth, label=" and ".join(pair), **style)
        axes.set_ylabel("cosine (1 same, -1 opposite)")
        axes.set_ylim(-1.05, 1.05)
        step_axis(axes, marks=phase_marks(record))
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return finish(
            figure,
            "gradient_cosine",
            "Cosine between the terms' gradients on the encoder (train)",
            "Under 0, a step that lowers the one term raises the other (arXiv 2001.06782); about 0, they "
            "work on different things. Pairs of which one has no gradient there have no line.",
        )
