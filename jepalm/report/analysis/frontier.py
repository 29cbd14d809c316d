"""Quality against cost: what an evaluation says of every way to write, as points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from jepalm.evaluation.rows import VERIFIED, VERIFIED_NGRAM, Evaluation, is_baseline
from jepalm.numbers import three
from jepalm.report.analysis.evaluation import columns, conditions, label, refined_columns

AXES = ("cost/passes", "cost/latency")
"""Costs that the quality is drawn against."""
QUALITY = "scorer/gap"
FIGURES = (*AXES, "cost/characters_per_s", QUALITY, "text/valid_words", "brier/score_4")
"""Of the table beside the figure."""
ALONE = "this run"


@dataclass(frozen=True)
class Point:
    """One way to write.

    Attributes:
        column: of the evaluation.
        name: for people.
        values: of `FIGURES`, as far as they were measured.
        run: whose own way it is; empty for controls, baselines and what is verified.
    """

    column: str
    name: str
    values: dict[str, float]
    run: str


def points(evaluation: Evaluation, run: str = ALONE) -> list[Point]:
    """Return every way to write whose cost was measured; none of an evaluation without costs or scorer."""
    known = {row.name: row.values for row in evaluation.rows}
    if not known.keys() >= {*AXES, QUALITY}:
        return []
    return [
        Point(
            column,
            way_name(evaluation, column),
            {name: known[name][column] for name in FIGURES if column in known.get(name, ())},
            run if column in own_columns(evaluation) else "",
        )
        for column in columns(evaluation)
        if column in known[AXES[0]]
    ]


def points_of_runs(conditioning: Mapping[str, Evaluation]) -> list[Point]:
    """Return the ways of several runs by their names, and once each what stands beside more than one.

    Runs whose evaluation was made otherwise than the first one's are left out.
    """
    found: dict[str, Point] = {}
    measured = [(name, evaluation) for name, evaluation in conditioning.items() if points(evaluation)]
    for name, evaluation in measured:
        if conditions(evaluation, QUALITY) != conditions(measured[0][1], QUALITY):
            continue
        for point in points(evaluation, name):
            if point.run:
                point = replace(point, name=f"{name}, {point.name}")
            elif point.column == VERIFIED:
                point = replace(point, name=f"{name} drafts, {point.name}")
            elif point.name in conditioning:
                continue  # a baseline, which stands there as a run
            found.setdefault(point.name, point)
    return list(found.values())


def table(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table beside the figure, real text last; no rows without points."""
    return _table(evaluation, points(evaluation))


def table_of_runs(conditioning: Mapping[str, Evaluation]) -> tuple[list[str], list[list[str]]]:
    """The same of the ways of several runs by their names."""
    found = points_of_runs(conditioning)
    return _table(next(one for one in conditioning.values() if points(one)), found) if found else ([], [])


def _table(evaluation: Evaluation, found: list[Point]) -> tuple[list[str], list[list[str]]]:
    known = {row.name: row for row in evaluation.rows}
    shown = [name for name in FIGURES if name in known]
    ways = [(point.name, point.values) for point in found]
    if ways:
        real = {name: known[name].values["real"] for name in shown if "real" in known[name].values}
        ways.append(("real text", real))
    rows = [[name, *(three(values[key]) if key in values else "" for key in shown)] for name, values in ways]
    return ["", *(label(known[name]) for name in shown)], rows


def texts(evaluation: Evaluation) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return each prompt that texts are kept of, and name and text of every way to write, real text first."""
    order = ["real", *(name for name in columns(evaluation) if name != "real")]
    return [
        (
            conditioning["prompt"],
            [(way_name(evaluation, name), conditioning[name]) for name in order if name in conditioning],
        )
        for conditioning in evaluation.texts
    ]


def own_columns(evaluation: Evaluation) -> list[str]:
    """Columns of texts that the run wrote by itself, in one pass a passage and in more."""
    return ["model", *refined_columns(evaluation)]


def way_name(evaluation: Evaluation, column: str) -> str:
    """What a column's way to write is called; `columns` knows it."""
    if column == "real":
        return "real text"
    title = columns(evaluation)[column]
    if column == "model":
        alone = "one pass" if refined_columns(evaluation) else "model"
        return alone if evaluation.length is None else "one pass a passage"
    if column.startswith("kept_"):
        return f"{title} of a passage"
    if column.startswith("sure_"):
        return f"kept while {title}"
    if column == VERIFIED:
        return f"{short(evaluation.verified or '')}, verified"
    if column == VERIFIED_NGRAM:
        return f"{short(evaluation.verified or '')}, 5-gram drafts verified"
    if is_baseline(column):
        names = [evaluation.baseline or "", *evaluation.further]
        return short(names[int(column.partition("_")[2] or 1) - 1])
    return title


def short(run: str) -> str:
    """A run's name without its date."""
    parts = run.split("-")
    return "-".join(parts[3:]) if len(parts) > 3 and parts[0].isdecimal() else run
