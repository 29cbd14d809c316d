"""Figures of several runs: overlaid curves and compositions, runs of one recipe as mean and band."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from jepalm.report.analysis.compare import Comparison, SeedGroup, all_terms
from jepalm.report.analysis.phases import phase_marks
from jepalm.report.analysis.run import CURVE_ROWS, moving_average
from jepalm.report.analysis.seeds import mean_curve, spread
from jepalm.report.analysis.units import UNITS
from jepalm.report.plots.draw import (
    Art,
    canvas,
    finish,
    line,
    panels_of,
    run_style,
    set_log,
    stacked_bars,
    step_axis,
)
from jepalm.report.plots.frontier import frontier_of_runs
from jepalm.report.read import RunRecord, Series

COMPARISON_FIGURES = ("overlay_train", "overlay_validation", "compositions")
"""Names of the figures that a comparison can have."""
BAND = " Runs of one recipe are drawn as their mean, with one standard deviation over the seeds as a band."


def comparison_figures(comparison: Comparison) -> list[Art]:
    """Draw the overlays; those without data are left out."""
    terms = all_terms(comparison.summaries)
    train = [("loss", "train/loss"), *((term, f"train/term/{term}") for term in terms)]
    held_out = [
        ("R2", "validation/r2"),
        ("generation accuracy", "validation/generation_accuracy"),
        ("generation CE (nats)", "validation/generation_ce"),
        ("effective rank", "validation/effective_rank"),
    ]
    band = BAND if comparison.repeated else ""
    arts = [
        _overlay(
            comparison,
            train,
            "overlay_train",
            "Loss terms of each run (train, smoothed)",
            "Each term before its weight; runs with other widths or weights are not on one scale." + band,
        ),
        _overlay(
            comparison,
            held_out,
            "overlay_validation",
            "Held-out figures of each run (validation)",
            "Measured on the same kind of held-out pairs; compare only runs on the same data." + band,
        ),
        _compositions(comparison),
        frontier_of_runs(comparison.by_short_name),
    ]
    return [art for art in arts if art is not None]


def _overlay(
    comparison: Comparison, panels: list[tuple[str, str]], name: str, title: str, caption: str
) -> Art | None:
    records = [summary.record for summary in comparison.summaries]
    kept = [panel for panel in panels if any(len(record.series(panel[1]).finite()) for record in records)]
    if not kept:
        return None
    with canvas(9.6, 2.8 * -(-len(kept) // 2) + 0.9) as figure:
        cells = panels_of(figure, len(kept))
        for axes, (label, key) in zip(cells, kept, strict=True):
            _draw_groups(axes, comparison, key)
            axes.set_title(label)
            axes.set_ylabel(UNITS.get(label, "") if key.startswith("train/") else "")
            step_axis(axes, marks=_common_marks(records))
        handles = {
            label: handle
            for axes in cells
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=2)
        return finish(figure, name, title, caption)


def _draw_groups(axes: Axes, comparison: Comparison, key: str) -> None:
    """A line a group; of several runs their mean, with the standard deviation as a band."""
    drawn = []
    for index, group in enumerate(comparison.groups):
        curves = [_curve(comparison.summaries[place].record, key) for place in group.members]
        curves = [curve for curve in curves if len(curve)]
        if not curves:
            continue
        mean, deviation = mean_curve(curves)
        line(axes, mean.step, mean.value, label=group.name, **run_style(index))
        drawn.append((mean, deviation, min(curve.value.min() for curve in curves), run_style(index)))
    if key.startswith("train/") or "ce" in key.rsplit("_", 1)[-1]:
        set_log(axes, *(mean.value for mean, *_ in drawn))
    for mean, deviation, lowest, style in drawn:
        if deviation.any():
            low = mean.value - deviation
            if axes.get_yscale() == "log":
                low = np.maximum(low, lowest)  # a log axis has no room under zero
            high = mean.value + deviation
            axes.fill_between(mean.step, low, high, color=style["color"], alpha=0.2, linewidth=0)


def _curve(record: RunRecord, key: str) -> Series:
    """A scalar over steps, that of train smoothed."""
    series = record.series(key).finite()
    window = max(1, len(series) // CURVE_ROWS) if key.startswith("train/") else 1
    return Series(series.step, moving_average(series.value, window))


def _common_marks(records: list[RunRecord]) -> list[tuple[int, str]]:
    """The phases, where all runs have the same."""
    marks = [phase_marks(record) for record in records]
    return marks[0] if all(other == marks[0] for other in marks) else []


def _compositions(comparison: Comparison) -> Art | None:
    terms = all_terms(comparison.summaries)
    bars = {group.name: _mean_composition(comparison, group, terms) for group in comparison.groups}
    bars = {name: shares for name, shares in bars.items() if shares}
    if not bars:
        return None
    with canvas(9.6, 1.3 + 0.45 * len(bars)) as figure:
        stacked_bars(figure.subplots(), bars, terms)
        return finish(
            figure,
            "compositions",
            "Composition of the stable loss of each run (train)",
            "Mean share of each weighted term over each run's own stable phase"
            + (", and over the seeds of a recipe." if comparison.repeated else "."),
        )


def _mean_composition(comparison: Comparison, group: SeedGroup, terms: list[str]) -> dict[str, float]:
    known = [comparison.summaries[place].composition for place in group.members]
    found = {term: spread(shares.get(term) for shares in known) for term in terms}
    return {term: over.mean for term, over in found.items() if over is not None}
