"""Quality against cost: what an evaluation says of every way to write, as points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from jepalm.evaluation.rows import Evaluation
from jepalm.numbers import three
from jepalm.report.analysis.evaluation import columns, conditions, kind, label, refined_columns, way_name

AXES = ("cost/passes", "cost/latency")
"""Costs that the quality is drawn against."""
ALONE = "this run"
"""Name of a run that is not compared with others."""
QUALITY = "scorer/gap"
METRICS = (*AXES, "cost/characters_per_s", QUALITY, "text/valid_words", "brier/score_4")
"""Of the table beside the plot."""


@dataclass(frozen=True)
class Point:
    """One way to write.

    Attributes:
        column: of the evaluation.
        name: for people.
        values: of `METRICS`, as far as they were measured.
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
    own = {"model", *refined_columns(evaluation)}
    return [
        Point(
            column,
            way_name(evaluation, column),
            {name: known[name][column] for name in METRICS if column in known.get(name, ())},
            run if column in own else "",
        )
        for column in columns(evaluation)
        if column in known[AXES[0]]
    ]


def points_of_runs(evaluations: Mapping[str, Evaluation]) -> list[Point]:
    """Return the ways of runs by their names, and once each what stands beside more than one.

    Runs whose evaluation was made otherwise than the first one's are left out.
    """
    measured = {name: found for name, one in evaluations.items() if (found := points(one, name))}
    if list(evaluations) == [ALONE]:
        return measured.get(ALONE, [])
    known: dict[str, Point] = {}
    alike = conditions(evaluations[next(iter(measured))], QUALITY) if measured else ()
    for name, found in measured.items():
        if conditions(evaluations[name], QUALITY) != alike:
            continue
        for point in found:
            if point.run:
                point = replace(point, name=f"{name}, {point.name}")
            elif kind(point.column) == "verified":
                point = replace(point, name=f"{name} drafts, {point.name}")
            elif point.name in evaluations:
                continue  # a baseline, which stands there as a run
            known.setdefault(point.name, point)
    return list(known.values())


def table(evaluations: Mapping[str, Evaluation]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table beside the plot, real text last; no rows without points."""
    found = points_of_runs(evaluations)
    if not found:
        return [], []
    known = {row.name: row for row in next(one for one in evaluations.values() if points(one)).rows}
    shown = [name for name in METRICS if name in known]
    real = {name: known[name].values["real"] for name in shown if "real" in known[name].values}
    ways = [*((point.name, point.values) for point in found), ("real text", real)]
    rows = [[name, *(three(values[key]) if key in values else "" for key in shown)] for name, values in ways]
    return ["", *(label(known[name]) for name in shown)], rows
