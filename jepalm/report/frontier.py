"""Quality against cost: what an evaluation says of every way to write, as points."""

from __future__ import annotations

from dataclasses import dataclass

from jepalm.evaluation.rows import VERIFIED, VERIFIED_NGRAM, Evaluation, is_baseline
from jepalm.numbers import three
from jepalm.report.evaluations import columns, label, refined_columns

AXES = ("cost/passes", "cost/latency")
"""Costs that the quality is drawn against."""
QUALITY = "scorer/gap"
FIGURES = (*AXES, "cost/characters_per_s", QUALITY, "text/valid_words", "brier/score_4")
"""Of the table beside the figure."""


@dataclass(frozen=True)
class Point:
    """One way to write.

    Attributes:
        column: of the evaluation.
        name: for people.
        values: of `FIGURES`, as far as they were measured.
    """

    column: str
    name: str
    values: dict[str, float]


def points(evaluation: Evaluation) -> list[Point]:
    """Return every way to write whose cost was measured; none of an evaluation without costs or scorer."""
    known = {row.name: row.values for row in evaluation.rows}
    if not known.keys() >= {*AXES, QUALITY}:
        return []
    return [
        Point(
            column,
            way_name(evaluation, column),
            {name: known[name][column] for name in FIGURES if column in known.get(name, ())},
        )
        for column in columns(evaluation)
        if column in known[AXES[0]]
    ]


def table(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table beside the figure, real text last; no rows without points."""
    known = {row.name: row for row in evaluation.rows}
    shown = [name for name in FIGURES if name in known]
    ways = [(point.name, point.values) for point in points(evaluation)]
    if ways:
        real = {name: known[name].values["real"] for name in shown if "real" in known[name].values}
        ways.append(("real text", real))
    rows = [[name, *(three(values[key]) if key in values else "" for key in shown)] for name, values in ways]
    return ["", *(label(known[name]) for name in shown)], rows


def texts(evaluation: Evaluation) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return each prompt that texts are kept of, and name and text of every way to write, real text first."""
    order = ["real", *(name for name in columns(evaluation) if name != "real")]
    return [
        (told["prompt"], [(way_name(evaluation, name), told[name]) for name in order if name in told])
        for told in evaluation.texts
    ]


def way_name(evaluation: Evaluation, column: str) -> str:
    """What a column's way to write is called; `columns` knows it."""
    if column == "real":
        return "real text"
    title = columns(evaluation)[column]
    if column == "model":
        return "one pass" if refined_columns(evaluation) else "model"
    if column.startswith("kept_"):
        return f"{title} of a passage"
    if column == VERIFIED:
        return f"{_short(evaluation.verified or '')}, verified"
    if column == VERIFIED_NGRAM:
        return f"{_short(evaluation.verified or '')}, 5-gram drafts verified"
    if is_baseline(column):
        names = [evaluation.baseline or "", *evaluation.further]
        return _short(names[int(column.partition("_")[2] or 1) - 1])
    return title


def _short(run: str) -> str:
    """A run's name without its date."""
    parts = run.split("-")
    return "-".join(parts[3:]) if len(parts) > 3 and parts[0].isdecimal() else run
