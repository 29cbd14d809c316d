"""The data behind a report as the text of CSV files, at full precision."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from jepalm.escaping import for_csv
from jepalm.report.analysis.article import ARTICLE_COMPOSITION
from jepalm.report.analysis.evaluation import COLUMNS, columns, name_and_unit
from jepalm.report.analysis.run import epoch_means
from jepalm.report.analysis.sweep import SweepTable, numbers_of
from jepalm.report.comparison import Comparison
from jepalm.report.read import LogPoint, RunRecord, number
from jepalm.report.summary import Summary


def run_csv(summary: Summary) -> dict[str, str]:
    """Return the files of one run by name."""
    record, phase = summary.record, summary.phase
    steps = [phase.first, phase.last] if phase else ["", ""]
    means = epoch_means(record, "embedding")
    return {
        "train.csv": _scalars(record.train),
        "validation.csv": _scalars(record.validation),
        "batches.csv": _batches(record),
        "embedding_by_epoch.csv": _csv(
            ["epoch", "first_step", "last_step", "mean"],
            [[epoch, one.first, one.last, one.mean] for epoch, one in means.items()],
        ),
        "composition.csv": _csv(
            ["term", "share", "article", "first_step", "last_step"],
            [
                [term, share, ARTICLE_COMPOSITION.get(term, ""), *steps]
                for term, share in summary.composition.items()
            ],
        ),
        "phases.csv": _csv(
            ["phase", "first_step", "last_step", "term", "share"],
            [
                [phase.name, phase.first, phase.last, term, share]
                for phase, shares in summary.phases
                for term, share in shares.items()
            ],
        ),
        "evaluation.csv": _evaluations(record),
        "samples.csv": _csv(
            ["step", "source", "target", "generated"],
            [[one.step, one.source, one.target, one.generated] for one in record.samples],
        ),
    }


def comparison_csv(comparison: Comparison) -> dict[str, str]:
    """Return the files of several runs by name."""
    return {
        "table.csv": _csv(
            ["metric", *comparison.names], [[one.label, *one.values] for one in comparison.metrics]
        ),
        "over_seeds.csv": _csv(
            ["metric", "recipe", "mean", "sd", "n"],
            [
                [one.label, group.name, over.mean, over.sd, over.n]
                for one in comparison.metrics
                for group, over in zip(comparison.groups, one.over_seeds, strict=True)
                if over is not None
            ],
        ),
        "config_difference.csv": _csv(
            ["setting", *comparison.names], [[key, *values] for key, values in comparison.differences.items()]
        ),
    }


def sweep_csv(table: SweepTable) -> str:
    """Return one line a row and metric of a sweep, with the value of every seed."""
    lines: list[Sequence[Any]] = []
    names: list[str] = []
    for one in table.metrics:
        for line in one.lines:
            numbers = numbers_of(line)
            names = list(numbers)
            seeds = [line.values.get(seed) for seed in table.seeds]
            lines.append([line.row, one.metric.name, one.metric.unit, *numbers.values(), *seeds])
    return _csv(["row", "metric", "unit", *names, *(f"seed_{seed}" for seed in table.seeds)], lines)


def _scalars(points: list[LogPoint]) -> str:
    """Every scalar, a row a log point; keys that the report does not know too."""
    keys = dict.fromkeys(key for key in ("step", "epoch", "time") if any(key in point for point in points))
    for point in points:
        keys |= dict.fromkeys(key for key, value in point.items() if number(value) is not None)
    return _csv(list(keys), [[point.get(key) for key in keys] for point in points])


def _batches(record: RunRecord) -> str:
    """The raw value of each term at each step."""
    terms = [term for term in record.terms if term in record.batches]
    table: dict[int, dict[str, float]] = {}
    for term in terms:
        series = record.batches[term]
        for step, value in zip(series.step.tolist(), series.value.tolist(), strict=True):
            table.setdefault(step, {})[term] = value
    rows = [[step, *(table[step].get(term) for term in terms)] for step in sorted(table)]
    return _csv(["step", *terms], rows)


def _evaluations(record: RunRecord) -> str:
    """Each metric of each evaluated split with its interval and controls."""
    shown = dict.fromkeys([*COLUMNS, *(name for one in record.evaluations.values() for name in columns(one))])
    return _csv(
        ["split", "name", "metric", "unit", *shown, "low", "high", "controls"],
        [
            [
                split,
                row.name,
                *name_and_unit(row),
                *(row.values.get(column) for column in shown),
                *(row.interval or ("", "")),
                "; ".join(f"{name}={value}" for name, value in row.controls.items()),
            ]
            for split, found in record.evaluations.items()
            for row in found.rows
        ],
    )


def _csv(header: list[str], rows: Iterable[Sequence[Any]]) -> str:
    """A header and its rows as CSV text; None is an empty cell. All CSV passes here."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(for_csv, header))
    writer.writerows(map(for_csv, row) for row in rows)
    return text.getvalue()
