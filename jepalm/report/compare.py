"""Two or more runs side by side: overlaid curves, a table, and what differs in their configs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jepalm.config import flatten
from jepalm.numbers import NOTHING, three
from jepalm.report.analysis import moving_average
from jepalm.report.draw import Art, canvas, finish, line, run_style, set_log, step_axis
from jepalm.report.figures import CURVE_ROWS, UNITS, panels_of, stacked_bars
from jepalm.report.numbers import count, duration, percent
from jepalm.report.read import TERM_ORDER, RunRecord
from jepalm.report.summary import Summary, setting_text

COMPARISON_FIGURES = ("overlay_train", "overlay_validation", "compositions")
"""Names of the figures that a comparison can have."""


@dataclass(frozen=True)
class MetricRow:
    """One figure of every run."""

    label: str
    values: list[float | None]
    texts: list[str]
    spread: str
    """Mean and standard deviation over the runs."""


@dataclass(frozen=True)
class Comparison:
    """Several runs."""

    summaries: list[Summary]
    names: list[str]
    """One name a run, all different."""
    rows: list[MetricRow]
    differences: dict[str, list[str]]
    """Dotted key to each run's value, where they differ."""

    @property
    def same_but_for_seed(self) -> bool:
        """Whether the runs are repetitions, so that a mean over them means something."""
        return set(self.differences) == {"training.seed"}

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return {
            "runs": [summary.as_json() for summary in self.summaries],
            "names": self.names,
            "table": {
                row.label: [v if v is not None and np.isfinite(v) else None for v in row.values]
                for row in self.rows
            },
            "config_difference": {
                key: dict(zip(self.names, values, strict=True)) for key, values in self.differences.items()
            },
        }


def compare(summaries: list[Summary]) -> Comparison:
    """Set two or more runs side by side."""
    return Comparison(
        summaries=summaries,
        names=unique_names([summary.record.name for summary in summaries]),
        rows=metric_rows(summaries),
        differences=config_differences([summary.record for summary in summaries]),
    )


def unique_names(names: list[str]) -> list[str]:
    """Number the names that occur more than once."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result


def config_differences(records: list[RunRecord]) -> dict[str, list[str]]:
    """Return the dotted keys whose values are not the same in every run."""
    flat = [{key: setting_text(value) for key, value in flatten(record.config)} for record in records]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    table = {key: [settings.get(key, NOTHING) for settings in flat] for key in keys}
    return {key: values for key, values in table.items() if len(set(values)) > 1}


def metric_rows(summaries: list[Summary]) -> list[MetricRow]:
    """Return the table of runs; a figure that no run has is left out."""
    rows: list[MetricRow] = []

    def add(
        label: str, value: Callable[[Summary], float | None], text: Callable[[float | None], str]
    ) -> None:
        values = [value(summary) for summary in summaries]
        known = [v for v in values if v is not None and np.isfinite(v)]
        if all(v is None for v in values):
            return
        spread = NOTHING
        if len(known) > 1:
            spread = f"{text(float(np.mean(known)))} ± {text(float(np.std(known, ddof=1)))}"
        rows.append(MetricRow(label, values, [text(v) for v in values], spread))

    def last(key: str) -> Callable[[Summary], float | None]:
        return lambda summary: summary.record.series(key).last

    def found(index: int, key: str) -> Callable[[Summary], float | None]:
        return lambda summary: summary.findings[index].values.get(key)

    add("steps", lambda s: float(s.record.step), lambda v: NOTHING if v is None else f"{v:,.0f}")
    add("parameters", lambda s: s.parameters.get("total"), count)
    add("time", lambda s: s.speed.seconds, duration)
    add("speed (steps/s)", lambda s: s.speed.steps_per_second, three)
    add("loss (train, last row)", last("train/loss"), three)
    add("reconstruction CE (train, finding 1)", found(0, "ce"), three)
    add("embedding distance (train, last epoch)", found(1, "last"), three)
    add("embedding distance, first to last epoch", found(1, "change"), percent)
    for label, key in (
        ("R2", "r2"),
        ("R2 against a copy of the source", "r2_copy"),
        ("reconstruction CE", "reconstruction_ce"),
        ("generation CE", "generation_ce"),
        ("next-token CE", "next_token_ce"),
        ("nats a character", "nats_per_character"),
        ("length error (positions)", "length_mae"),
        ("effective rank", "effective_rank"),
        ("predicted effective rank", "predicted_effective_rank"),
    ):
        add(f"{label} (validation)", last(f"validation/{key}"), three)
    for label in ("reconstruction", "generation"):
        add(f"{label} accuracy (validation)", last(f"validation/{label}_accuracy"), percent)
    for term in _terms(summaries):
        add(f"share of {term} (train, stable phase)", lambda s, t=term: s.composition.get(t), percent)  # type: ignore[misc]
    return rows


def comparison_figures(comparison: Comparison) -> list[Art]:
    """Draw the overlays; those without data are left out."""
    terms = _terms(comparison.summaries)
    train = [("loss", "train/loss"), *((term, f"train/term/{term}") for term in terms)]
    held_out = [
        ("R2", "validation/r2"),
        ("generation accuracy", "validation/generation_accuracy"),
        ("generation CE (nats)", "validation/generation_ce"),
        ("effective rank", "validation/effective_rank"),
    ]
    arts = [
        _overlay(
            comparison,
            train,
            "overlay_train",
            "Loss terms of each run (train, smoothed)",
            "Each term before its weight; runs with other widths or weights are not on one scale.",
        ),
        _overlay(
            comparison,
            held_out,
            "overlay_validation",
            "Held-out figures of each run (validation)",
            "Measured on the same kind of held-out pairs; compare only runs on the same data.",
        ),
        _compositions(comparison),
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
            drawn = []
            for index, (run, record) in enumerate(zip(comparison.names, records, strict=True)):
                series = record.series(key).finite()
                if not len(series):
                    continue
                window = max(1, len(series) // CURVE_ROWS) if key.startswith("train/") else 1
                smooth = moving_average(series.value, window)
                line(axes, series.step, smooth, label=run, **run_style(index))
                drawn.append(smooth)
            if key.startswith("train/") or "ce" in key.rsplit("_", 1)[-1]:
                set_log(axes, *drawn)
            axes.set_title(label)
            axes.set_ylabel(UNITS.get(label, "") if key.startswith("train/") else "")
            step_axis(axes)
        handles = {
            label: handle
            for axes in cells
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=2)
        return finish(figure, name, title, caption)


def _compositions(comparison: Comparison) -> Art | None:
    bars = {
        name: summary.composition
        for name, summary in zip(comparison.names, comparison.summaries, strict=True)
        if summary.composition
    }
    if not bars:
        return None
    with canvas(9.6, 1.3 + 0.45 * len(bars)) as figure:
        stacked_bars(figure.subplots(), bars, _terms(comparison.summaries))
        return finish(
            figure,
            "compositions",
            "Composition of the stable loss of each run (train)",
            "Mean share of each weighted term over each run's own stable phase.",
        )


def _terms(summaries: list[Summary]) -> list[str]:
    names = {term for summary in summaries for term in summary.record.terms}
    return [term for term in TERM_ORDER if term in names] + sorted(names.difference(TERM_ORDER))
