"""Plots of several runs: overlaid curves and compositions, runs of one recipe as mean and band."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from jepalm.report.analysis.phases import phase_marks
from jepalm.report.analysis.run import smooth
from jepalm.report.analysis.seeds import mean_curve, mean_std
from jepalm.report.comparison import VALIDATED, Comparison, SeedGroup, all_terms
from jepalm.report.plots.draw import (
    Plot,
    canvas,
    finish,
    line,
    panels_of,
    run_style,
    set_log,
    stacked_bars,
    step_axis,
)
from jepalm.report.plots.frontier import frontier
from jepalm.report.read import RunRecord, Series

COMPARISON_PLOTS = ("overlay_train", "overlay_validation", "compositions")
"""Names of the plots that a comparison can have, beside a frontier."""
HELD_OUT = {"r2": "", "generation_accuracy": "", "generation_ce": "nats", "effective_rank": ""}
"""Validation metrics that are overlaid, and their units."""
BAND = " Runs of one recipe are drawn as their mean, with one standard deviation over the seeds as a band."

Curves = tuple[str, str, list[Series]]
"""Title and unit of a panel, and a curve of each run."""


def comparison_plots(comparison: Comparison) -> list[Plot]:
    """Draw the overlays; those without data are left out."""
    records = [summary.record for summary in comparison.summaries]
    terms = all_terms(comparison.summaries)
    train: list[Curves] = [("loss", "", [smooth(record.series("train/loss").finite()) for record in records])]
    for name, term in terms.items():
        curves = [smooth(record.series(f"train/term/{name}").finite()) for record in records]
        train.append((term.label, term.unit, curves))
    held_out = [
        (VALIDATED[key][0], unit, [record.series(f"validation/{key}").finite() for record in records])
        for key, unit in HELD_OUT.items()
    ]
    band = BAND if comparison.repeated else ""
    plots = [
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
            "Held-out metrics of each run (validation)",
            "Measured on the same kind of held-out pairs; compare only runs on the same data." + band,
        ),
        _compositions(comparison),
        frontier(comparison.by_short_name),
    ]
    return [plot for plot in plots if plot is not None]


def _overlay(
    comparison: Comparison, panels: list[Curves], name: str, title: str, caption: str
) -> Plot | None:
    kept = [panel for panel in panels if any(map(len, panel[2]))]
    if not kept:
        return None
    marks = _common_marks([summary.record for summary in comparison.summaries])
    with canvas(9.6, 2.8 * -(-len(kept) // 2) + 0.9) as figure:
        cells = panels_of(figure, len(kept))
        for axes, (label, unit, curves) in zip(cells, kept, strict=True):
            _draw_groups(axes, comparison.groups, curves, log=name == "overlay_train" or bool(unit))
            axes.set_title(label)
            axes.set_ylabel(unit)
            step_axis(axes, marks=marks)
        handles = {
            label: handle
            for axes in cells
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=2)
        return finish(figure, name, title, caption)


def _draw_groups(axes: Axes, groups: list[SeedGroup], curves: list[Series], log: bool) -> None:
    """A line a group; of several runs their mean, with the standard deviation as a band."""
    drawn = []
    for index, group in enumerate(groups):
        own = [curves[place] for place in group.members if len(curves[place])]
        if own:
            mean, deviation = mean_curve(own)
            line(axes, mean.step, mean.value, label=group.name, **run_style(index))
            drawn.append((mean, deviation, min(curve.value.min() for curve in own), run_style(index)))
    if log:
        set_log(axes, *(mean.value for mean, *_ in drawn))
    for mean, deviation, lowest, style in drawn:
        if deviation.any():
            low, high = mean.value - deviation, mean.value + deviation
            if axes.get_yscale() == "log":
                low = np.maximum(low, lowest)  # a log axis has no room under zero
            axes.fill_between(mean.step, low, high, color=style["color"], alpha=0.2, linewidth=0)


def _common_marks(records: list[RunRecord]) -> list[tuple[int, str]]:
    """The phases, where all runs have the same."""
    marks = [phase_marks(record) for record in records]
    return marks[0] if all(other == marks[0] for other in marks) else []


def _compositions(comparison: Comparison) -> Plot | None:
    terms = list(all_terms(comparison.summaries))
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
    found = {term: mean_std(shares.get(term) for shares in known) for term in terms}
    return {term: over.mean for term, over in found.items() if over is not None}
