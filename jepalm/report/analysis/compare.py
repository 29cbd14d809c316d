"""Two or more runs side by side: a table, what differs in their configs, and the spread over seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from jepalm.config import flatten
from jepalm.numbers import NOTHING, duration, three
from jepalm.report.analysis import evaluation as evaluations
from jepalm.report.analysis.frontier import short, table_of_runs
from jepalm.report.analysis.numbers import count, percent
from jepalm.report.analysis.paired import Spread
from jepalm.report.analysis.seeds import SEED, group_by_recipe, spread
from jepalm.report.analysis.summary import Summary, setting_text
from jepalm.report.read import TERM_ORDER, RunRecord

OVER_SEEDS = "Mean ± sample standard deviation over the seeds of a recipe; a single run has its value."


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
class MetricRow:
    """One figure of every run, and its spread over the runs of each group."""

    label: str
    values: list[float | None]
    texts: list[str]
    spreads: list[Spread | None]
    spread_texts: list[str]
    """Mean and standard deviation of each group, or the value of its only run."""


@dataclass(frozen=True)
class Comparison:
    """Several runs."""

    summaries: list[Summary]
    names: list[str]
    """One name a run, all different."""
    groups: list[SeedGroup]
    rows: list[MetricRow]
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
        names = unique_names([short(summary.record.name) for summary in self.summaries])
        return {name: summary.record for name, summary in zip(names, self.summaries, strict=True)}

    @property
    def frontiers(self) -> dict[str, tuple[list[str], list[list[str]]]]:
        """By split, header and rows of the table of what the runs' ways to write cost."""
        records = self.by_short_name
        found = {}
        for split in evaluations.SPLITS:
            conditioning = {
                name: one.evaluations[split] for name, one in records.items() if split in one.evaluations
            }
            header, rows = table_of_runs(conditioning)
            if rows:
                found[split] = header, rows
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return {
            "runs": [summary.as_json() for summary in self.summaries],
            "names": self.names,
            "table": {
                row.label: [v if v is not None and np.isfinite(v) else None for v in row.values]
                for row in self.rows
            },
            "groups": [
                {"name": group.name, "n": group.n, "runs": [self.names[place] for place in group.members]}
                for group in self.groups
            ],
            "over_seeds": {
                row.label: [asdict(over) if over else None for over in row.spreads] for row in self.rows
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
    groups = [
        SeedGroup(name, members)
        for name, members in zip(_group_names(summaries, names, places, differences), places, strict=True)
    ]
    return Comparison(
        summaries=summaries,
        names=names,
        groups=groups,
        rows=metric_rows(summaries, places),
        differences=differences,
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


def metric_rows(summaries: list[Summary], groups: list[list[int]]) -> list[MetricRow]:
    """Return the table of runs; a figure that no run has is left out.

    Args:
        summaries: the runs.
        groups: places of the runs of each group.
    """
    rows: list[MetricRow] = []

    def tell(label: str, values: list[float | None], text: Callable[[float | None], str]) -> None:
        if all(v is None for v in values):
            return
        texts = [text(v) for v in values]
        spreads = [spread(values[place] for place in members) for members in groups]
        conditioning = [
            texts[members[0]] if len(members) == 1 else _spread_text(over, len(members), text)
            for members, over in zip(groups, spreads, strict=True)
        ]
        rows.append(MetricRow(label, values, texts, spreads, conditioning))

    def add(
        label: str, value: Callable[[Summary], float | None], text: Callable[[float | None], str]
    ) -> None:
        tell(label, [value(summary) for summary in summaries], text)

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
    for term in all_terms(summaries):
        add(f"share of {term} (train, stable phase)", lambda s, t=term: s.composition.get(t), percent)  # type: ignore[misc]
    for label, values in _evaluated(summaries):
        tell(label, values, three)
    return rows


def all_terms(summaries: list[Summary]) -> list[str]:
    """Return the terms of all runs, in the order of the house."""
    names = {term for summary in summaries for term in summary.record.terms}
    return [term for term in TERM_ORDER if term in names] + sorted(names.difference(TERM_ORDER))


def _evaluated(summaries: list[Summary]) -> list[tuple[str, list[float | None]]]:
    """Label and each run's value of the main held-out figures that were measured alike in all runs."""
    found = []
    for split in evaluations.SPLITS:
        conditioning = [summary.record.evaluations.get(split) for summary in summaries]
        for name in evaluations.MAIN_FIGURES:
            rows = [one and {row.name: row for row in one.rows}.get(name) for one in conditioning]
            measured = {
                evaluations.conditions(one, name) for one, row in zip(conditioning, rows, strict=True) if row
            }
            if len(measured) == 1:
                label = next(evaluations.label(row) for row in rows if row)
                values = [row.values.get("model") if row else None for row in rows]
                found.append((f"{label} (evaluated, {split})", values))
    return found


def _spread_text(over: Spread | None, runs: int, text: Callable[[float | None], str]) -> str:
    if over is None:
        return NOTHING
    conditioning = text(over.mean) + (f" ± {text(over.sd)}" if over.sd is not None else "")
    return conditioning if over.n == runs else f"{conditioning} (n = {over.n})"


def _group_names(
    summaries: list[Summary], names: list[str], groups: list[list[int]], differences: dict[str, list[str]]
) -> list[str]:
    """A run's own name, or the recipe's with its number of seeds, and what tells it from its namesakes."""
    titles = [summaries[members[0]].record.title for members in groups]
    conditioning = []
    for members, title in zip(groups, titles, strict=True):
        if len(members) == 1:
            conditioning.append(names[members[0]])
            continue
        namesakes = [
            other[0] for other, its in zip(groups, titles, strict=True) if its == title and len(other) > 1
        ]
        apart = [
            f"{key.rsplit('.', 1)[-1]}={values[members[0]]}"
            for key, values in differences.items()
            if key != SEED and len({values[place] for place in namesakes}) > 1
        ]
        conditioning.append(" ".join([title, *apart[:3], f"({len(members)} seeds)"]))
    return unique_names(conditioning)
