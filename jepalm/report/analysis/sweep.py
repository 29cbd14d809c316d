"""A sweep as one table: each row's metrics over seeds, and the paired test against the first row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jepalm.report.analysis.paired import Difference, MeanStd, holm, paired_difference

CONTROLS = {"real": "real text", "ngram": "5-gram", "baseline": "baseline"}
FEW_SEEDS = 5
"""With fewer the table says so."""


@dataclass(frozen=True)
class MetricValues:
    """One metric of all rows.

    Attributes:
        name: for programs.
        label: for people.
        unit: of all its values; may be empty.
        values: by row and seed.
        controls: by name for people.
    """

    name: str
    label: str
    unit: str
    values: Mapping[str, Mapping[int, float]]
    controls: Mapping[str, float]

    @property
    def title(self) -> str:
        """Label with unit."""
        return f"{self.label}, {self.unit}" if self.unit else self.label


@dataclass(frozen=True)
class RowFacts:
    """What a row is and what became of it.

    Attributes:
        name: of the row.
        changes: settings that differ from the reference, in words.
        runs: name of its run's folder in the sweep's by seed, where there is one.
        troubles: one line each, such as a failure.
        missing: seeds without metrics.
    """

    name: str
    changes: str
    runs: Mapping[int, str]
    troubles: list[str]
    missing: list[int]


@dataclass(frozen=True)
class SweepLine:
    """One row's metric over its seeds."""

    row: str
    values: Mapping[int, float]
    spread: MeanStd | None
    difference: Difference | None
    p_holm: float | None


@dataclass(frozen=True)
class MetricTable:
    """One metric of all rows, compared."""

    metric: MetricValues
    lines: list[SweepLine]


@dataclass(frozen=True)
class SweepTable:
    """The whole table."""

    name: str
    seeds: list[int]
    rows: list[RowFacts]
    metrics: list[MetricTable]
    measured_on: str

    @property
    def reference(self) -> str:
        """Name of the first row."""
        return self.rows[0].name

    @property
    def notes(self) -> list[str]:
        """What to keep in mind, and what is missing."""
        return [*self._reading(), *(trouble for row in self.rows for trouble in row.troubles)]

    def _reading(self) -> list[str]:
        notes = [self.measured_on] if self.measured_on else []
        compared, seeds = len(self.rows) - 1, len(self.seeds)
        if compared and seeds > 1:
            notes.append(
                f"difference: from {self.reference}, seed by seed, with its 95 % interval and p (paired"
                " t-test); *: the interval leaves 0 out"
            )
        if compared > 1 and seeds > 1:
            notes.append(
                f"{compared} rows are compared: where nothing helps, one in twenty gets a star by chance;"
                " p_holm in sweep.csv is corrected for that (Holm 1979)"
            )
        if seeds == 1:
            notes.append("one seed: no spread and no test; give more seeds")
        elif seeds < FEW_SEEDS:
            freedom = "1 degree" if seeds == 2 else f"{seeds - 1} degrees"
            notes.append(f"{seeds} seeds are few ({freedom} of freedom): only large differences are clear")
        missing = sum(len(row.missing) for row in self.rows)
        if missing:
            notes.append(f"{missing} of {len(self.rows) * seeds} runs have no metrics")
        return notes

    def as_json(self) -> dict[str, Any]:
        """The table as plain JSON values."""
        return {
            "sweep": self.name,
            "seeds": self.seeds,
            "reference": self.reference,
            "rows": [asdict(row) for row in self.rows],
            "metrics": [
                {
                    "metric": table.metric.name,
                    "label": table.metric.label,
                    "unit": table.metric.unit,
                    "rows": [
                        {"row": line.row, "values": dict(line.values), **numbers_of(line)}
                        for line in table.lines
                    ],
                    "controls": dict(table.metric.controls),
                }
                for table in self.metrics
            ],
            "notes": self.notes,
        }


def sweep_table(
    name: str, seeds: list[int], rows: list[RowFacts], metrics: list[MetricValues], measured_on: str = ""
) -> SweepTable:
    """Compare every row with the first."""
    return SweepTable(name, seeds, rows, [_compared(rows, metric) for metric in metrics], measured_on)


def numbers_of(line: SweepLine) -> dict[str, float | int | None]:
    """Everything computed of a line, by name."""
    spread, difference = line.spread, line.difference
    return {
        "mean": spread.mean if spread else None,
        "sd": spread.sd if spread else None,
        "n": spread.n if spread else 0,
        "difference": difference.mean if difference else None,
        "low": difference.low if difference else None,
        "high": difference.high if difference else None,
        "p": difference.p if difference else None,
        "p_holm": line.p_holm,
        "pairs": difference.n if difference else 0,
    }


def _compared(rows: list[RowFacts], metric: MetricValues) -> MetricTable:
    values = [metric.values.get(row.name, {}) for row in rows]
    differences = [None, *(paired_difference(found, values[0]) for found in values[1:])]
    corrected = holm([difference.p if difference else None for difference in differences])
    lines = [
        SweepLine(row.name, found, MeanStd.of(list(found.values())), difference, p)
        for row, found, difference, p in zip(rows, values, differences, corrected, strict=True)
    ]
    return MetricTable(metric, lines)
