"""Two or more runs side by side: a table, what differs in their configs, and the spread over seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from jepalm.config import flatten
from jepalm.numbers import NOTHING, count, counted, duration, percent, three
from jepalm.report.analysis import evaluation as evaluations
from jepalm.report.analysis.paired import MeanStd
from jepalm.report.analysis.seeds import SEED, group_by_recipe, mean_std
from jepalm.report.read import SPLITS, RunRecord, TermRecord
from jepalm.report.summary import Summary, setting_text

Text = Callable[[float | None], str]

VALIDATED: dict[str, tuple[str, Text]] = {
    "r2": ("R2", three),
    "r2_copy": ("R2 against a copy of the source", three),
    "reconstruction_ce": ("reconstruction CE", three),
    "generation_ce": ("generation CE", three),
    "nats_per_character": ("nats a character", three),
    "length_mae": ("length error (positions)", three),
    "effective_rank": ("effective rank", three),
    "predicted_effective_rank": ("predicted effective rank", three),
    "reconstruction_accuracy": ("reconstruction accuracy", percent),
    "generation_accuracy": ("generation accuracy", percent),
}
"""Validation metrics that a run may have whatever its loss terms are: label and how the number is written."""


@dataclass(frozen=True)
class SeedGroup:
    """Runs of one recipe, or a single run."""

    name: str
    members: list[int]
    """Places of its runs in the comparison."""

    @property
    def n(self) -> int:
        """How many runs, each with a seed of its own."""
        return len(self.members)


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of every run, and its mean over the runs of each group."""

    label: str
    values: list[float | None]
    texts: list[str]
    over_seeds: list[MeanStd | None]
    over_seeds_texts: list[str]
    """Mean and standard deviation of each group, or the value of its only run."""


@dataclass(frozen=True)
class Comparison:
    """Several runs."""

    summaries: list[Summary]
    names: list[str]
    """One name a run, all different."""
    groups: list[SeedGroup]
    metrics: list[ComparedMetric]
    differences: dict[str, list[str]]
    """Dotted key to each run's value, where they differ."""

    @property
    def repeated(self) -> bool:
        """Whether a recipe was run with several seeds, so that a mean over them means something."""
        return any(group.n > 1 for group in self.groups)

    @property
    def group_differences(self) -> dict[str, list[str]]:
        """Dotted key to each group's value, of the seed its values, where runs differ."""
        return {
            key: [", ".join(dict.fromkeys(values[place] for place in group.members)) for group in self.groups]
            for key, values in self.differences.items()
        }

    @property
    def by_short_name(self) -> dict[str, RunRecord]:
        """The runs by their names without dates, all different."""
        names = unique_names([evaluations.short(summary.record.name) for summary in self.summaries])
        return {name: summary.record for name, summary in zip(names, self.summaries, strict=True)}

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return {
            "runs": [summary.as_json() for summary in self.summaries],
            "names": self.names,
            "table": {
                row.label: [v if v is not None and np.isfinite(v) else None for v in row.values]
                for row in self.metrics
            },
            "groups": [
                {"name": group.name, "n": group.n, "runs": [self.names[place] for place in group.members]}
                for group in self.groups
            ],
            "over_seeds": {
                row.label: [asdict(over) if over else None for over in row.over_seeds] for row in self.metrics
            },
            "config_difference": {
                key: dict(zip(self.names, values, strict=True)) for key, values in self.differences.items()
            },
        }


def compare(summaries: list[Summary]) -> Comparison:
    """Set two or more runs side by side."""
    names = unique_names([summary.record.name for summary in summaries])
    differences = config_differences([summary.record for summary in summaries])
    places = group_by_recipe([summary.record.config for summary in summaries])
    groups = list(map(SeedGroup, _group_names(summaries, names, places, differences), places))
    return Comparison(summaries, names, groups, compared_metrics(summaries, places), differences)


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


def all_terms(summaries: list[Summary]) -> dict[str, TermRecord]:
    """Return the terms of all runs, as the first run that has one describes it."""
    found: dict[str, TermRecord] = {}
    for summary in summaries:
        for name, term in summary.record.terms.items():
            found.setdefault(name, term)
    return found


def compared_metrics(summaries: list[Summary], groups: list[list[int]]) -> list[ComparedMetric]:
    """Return the table of runs; a metric that no run has is left out.

    Args:
        summaries: the runs.
        groups: places of the runs of each group.
    """
    found: list[ComparedMetric] = []

    def add(label: str, values: list[float | None], text: Text = three) -> None:
        if all(value is None for value in values):
            return
        texts = [text(value) for value in values]
        means = [mean_std(values[place] for place in members) for members in groups]
        group_texts = [
            texts[members[0]] if len(members) == 1 else _mean_text(mean, len(members), text)
            for members, mean in zip(groups, means, strict=True)
        ]
        found.append(ComparedMetric(label, values, texts, means, group_texts))

    def last(key: str) -> list[float | None]:
        return [summary.record.series(key).last for summary in summaries]

    add("steps", [float(s.record.step) for s in summaries], lambda v: NOTHING if v is None else f"{v:,.0f}")
    add("parameters", [s.parameters.get("total") for s in summaries], count)
    add("time", [s.speed.seconds for s in summaries], duration)
    add("speed (steps/s)", [s.speed.steps_per_second for s in summaries])
    add("loss (train, last row)", last("train/loss"))
    add("reconstruction CE (train, finding 1)", [s.findings[0].values.get("ce") for s in summaries])
    add("embedding distance (train, last epoch)", [s.findings[1].values.get("last") for s in summaries])
    changes = [s.findings[1].values.get("change") for s in summaries]
    add("embedding distance, first to last epoch", changes, percent)
    terms = all_terms(summaries)
    for key, (label, text) in VALIDATED.items():
        add(f"{label} (validation)", last(f"validation/{key}"), text)
    for name, term in terms.items():
        if (term.validation or "").removeprefix("validation/") not in VALIDATED:
            held_out = [summary.record.held_out(name).last for summary in summaries]
            add(f"{term.label}, {term.unit} (validation)", held_out)
    for name in terms:
        add(f"share of {name} (train, stable phase)", [s.composition.get(name) for s in summaries], percent)
    for label, values in _evaluated(summaries):
        add(label, values)
    return found


def _evaluated(summaries: list[Summary]) -> list[tuple[str, list[float | None]]]:
    """Label and each run's value of the main held-out metrics that were measured alike in all runs."""
    found = []
    for split in SPLITS:
        measured = [summary.record.evaluations.get(split) for summary in summaries]
        for name in evaluations.MAIN_METRICS:
            rows = [one and {row.name: row for row in one.rows}.get(name) for one in measured]
            alike = {
                evaluations.conditions(one, name)
                for one, row in zip(measured, rows, strict=True)
                if one is not None and row is not None
            }
            if len(alike) == 1:
                label = next(evaluations.label(row) for row in rows if row)
                values = [row.values.get("model") if row else None for row in rows]
                found.append((f"{label} (evaluated, {split})", values))
    return found


def _mean_text(mean: MeanStd | None, runs: int, text: Text) -> str:
    if mean is None:
        return NOTHING
    shown = text(mean.mean) + (f" ± {text(mean.sd)}" if mean.sd is not None else "")
    return shown if mean.n == runs else f"{shown} (n = {mean.n})"


def _group_names(
    summaries: list[Summary], names: list[str], groups: list[list[int]], differences: dict[str, list[str]]
) -> list[str]:
    """A run's own name, or the recipe's with its number of seeds, and what tells it from its namesakes."""
    titles = [summaries[members[0]].record.title for members in groups]
    names_of_groups = []
    for members, title in zip(groups, titles, strict=True):
        if len(members) == 1:
            names_of_groups.append(names[members[0]])
            continue
        namesakes = [
            other[0] for other, its in zip(groups, titles, strict=True) if its == title and len(other) > 1
        ]
        apart = [
            f"{key.rsplit('.', 1)[-1]}={values[members[0]]}"
            for key, values in differences.items()
            if key != SEED and len({values[place] for place in namesakes}) > 1
        ]
        names_of_groups.append(" ".join([title, *apart[:3], f"({counted(len(members), 'seed')})"]))
    return unique_names(names_of_groups)
