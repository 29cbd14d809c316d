"""The data behind a report as CSV files."""

from __future__ import annotations

import csv
import io
from typing import Any

from jepalm.report.analysis.article import ARTICLE_COMPOSITION
from jepalm.report.analysis.compare import Comparison
from jepalm.report.analysis.evaluation import COLUMNS
from jepalm.report.analysis.evaluation import columns as columns_of
from jepalm.report.analysis.run import epoch_means
from jepalm.report.analysis.summary import Summary
from jepalm.report.read import Row, RunRecord, number

_LEADING = ("step", "epoch", "time")


def csv_files(summary: Summary) -> dict[str, str]:
    """Return the text of each CSV file by its name, at full precision."""
    record = summary.record
    return {
        "train.csv": rows_csv(record.train),
        "validation.csv": rows_csv(record.validation),
        "batches.csv": batches_csv(record),
        "embedding_by_epoch.csv": to_csv(
            ["epoch", "first_step", "last_step", "mean"],
            [[k, span.first, span.last, span.mean] for k, span in epoch_means(record, "embedding").items()],
        ),
        "composition.csv": to_csv(
            ["term", "share", "article", "first_step", "last_step"],
            [
                [
                    term,
                    share,
                    ARTICLE_COMPOSITION.get(term, ""),
                    summary.phase.first if summary.phase else "",
                    summary.phase.last if summary.phase else "",
                ]
                for term, share in summary.composition.items()
            ],
        ),
        "phases.csv": to_csv(
            ["phase", "first_step", "last_step", "term", "share"],
            [
                [phase.name, phase.first, phase.last, term, share]
                for phase, shares in summary.phases
                for term, share in shares.items()
            ],
        ),
        "evaluation.csv": evaluation_csv(record),
        "samples.csv": to_csv(
            ["step", "source", "target", "generated"],
            [[s.step, s.source, s.target, s.generated] for s in record.samples],
        ),
    }


def rows_csv(rows: list[Row]) -> str:
    """Return every scalar of the rows, one row a log point; keys that the tool does not know too."""
    keys: dict[str, None] = dict.fromkeys(key for key in _LEADING if any(key in row for row in rows))
    for row in rows:
        keys.update(dict.fromkeys(key for key, value in row.items() if number(value) is not None))
    return to_csv(list(keys), [[row.get(key, "") for key in keys] for row in rows])


def batches_csv(record: RunRecord) -> str:
    """Return the raw value of each term at each step."""
    terms = [term for term in record.terms if term in record.batches]
    table: dict[int, dict[str, float]] = {}
    for term in terms:
        series = record.batches[term]
        for step, value in zip(series.step.tolist(), series.value.tolist(), strict=True):
            table.setdefault(step, {})[term] = value
    return to_csv(
        ["step", *terms], [[step, *(table[step].get(term, "") for term in terms)] for step in sorted(table)]
    )


def evaluation_csv(record: RunRecord) -> str:
    """Return each figure of each evaluated split with its interval and controls."""
    conditioning = record.evaluations.values()
    columns = list(dict.fromkeys([*COLUMNS, *(name for one in conditioning for name in columns_of(one))]))
    return to_csv(
        ["split", "name", "figure", "unit", *columns, "low", "high", "controls"],
        [
            [
                split,
                row.name,
                row.label,
                row.unit,
                *(row.values.get(column, "") for column in columns),
                *(row.interval or ("", "")),
                "; ".join(f"{name}={value}" for name, value in row.controls.items()),
            ]
            for split, found in record.evaluations.items()
            for row in found.rows
        ],
    )


def comparison_csv(comparison: Comparison) -> dict[str, str]:
    """Return the table of several runs and their config differences as CSV by file name."""
    return {
        "table.csv": to_csv(
            ["figure", *comparison.names],
            [[row.label, *("" if v is None else v for v in row.values)] for row in comparison.rows],
        ),
        "over_seeds.csv": to_csv(
            ["figure", "recipe", "mean", "sd", "n"],
            [
                [row.label, group.name, over.mean, "" if over.sd is None else over.sd, over.n]
                for row in comparison.rows
                for group, over in zip(comparison.groups, row.spreads, strict=True)
                if over is not None
            ],
        ),
        "config_difference.csv": to_csv(
            ["setting", *comparison.names],
            [[key, *values] for key, values in comparison.differences.items()],
        ),
    }


def to_csv(header: list[str], rows: list[list[Any]]) -> str:
    """Return a header and its rows as CSV text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
