"""A sweep as one table: each row's figures over seeds, and the paired test against the first row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jepalm.numbers import NOTHING, three
from jepalm.report.analysis.paired import Difference, Spread, holm, paired_difference

CONTROLS = {"real": "real text", "ngram": "5-gram", "baseline": "baseline"}
FEW_SEEDS = 5
"""With fewer the table says so."""


@dataclass(frozen=True)
class FigureValues:
    """One figure of all rows.

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
        missing: seeds without figures.
    """

    name: str
    changes: str
    runs: Mapping[int, str]
    troubles: list[str]
    missing: list[int]


@dataclass(frozen=True)
class Line:
    """One row's figure."""

    row: str
    values: Mapping[int, float]
    spread: Spread | None
    difference: Difference | None
    p_holm: float | None

    @property
    def mean_text(self) -> str:
        """`0.123 ± 0.004`."""
        if self.spread is None:
            return NOTHING
        sd = f" ± {three(self.spread.sd)}" if self.spread.sd is not None else ""
        return three(self.spread.mean) + sd

    @property
    def n_text(self) -> str:
        """Seeds behind the mean."""
        return str(self.spread.n) if self.spread else "0"

    @property
    def difference_text(self) -> str:
        """With its sign, and a star where the interval leaves 0 out."""
        if self.difference is None:
            return ""
        return signed(self.difference.mean) + (" *" if self.difference.clear else "")

    @property
    def interval_text(self) -> str:
        """`[low, high]`."""
        if self.difference is None or self.difference.low is None:
            return ""
        return f"[{signed(self.difference.low)}, {signed(self.difference.high)}]"

    @property
    def p_text(self) -> str:
        """The p value, three digits at most."""
        return p_text(self.difference.p if self.difference else None)

    @property
    def p_holm_text(self) -> str:
        """The corrected p value."""
        return p_text(self.p_holm)


@dataclass(frozen=True)
class FigureTable:
    """One figure of all rows, compared."""

    figure: FigureValues
    lines: list[Line]


@dataclass(frozen=True)
class SweepTable:
    """The whole table."""

    name: str
    seeds: list[int]
    rows: list[RowFacts]
    figures: list[FigureTable]
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
            notes.append(f"{missing} of {len(self.rows) * seeds} runs have no figures")
        return notes

    def as_json(self) -> dict[str, Any]:
        """The table as plain JSON values."""
        return {
            "sweep": self.name,
            "seeds": self.seeds,
            "reference": self.reference,
            "rows": [asdict(row) for row in self.rows],
            "figures": [
                {
                    "figure": table.figure.name,
                    "label": table.figure.label,
                    "unit": table.figure.unit,
                    "rows": [
                        {
                            "row": line.row,
                            "values": dict(line.values),
                            **numbers_of(line),
                        }
                        for line in table.lines
                    ],
                    "controls": dict(table.figure.controls),
                }
                for table in self.figures
            ],
            "notes": self.notes,
        }


def sweep_table(
    name: str, seeds: list[int], rows: list[RowFacts], figures: list[FigureValues], measured_on: str = ""
) -> SweepTable:
    """Compare every row with the first."""
    return SweepTable(name, seeds, rows, [_compared(rows, figure) for figure in figures], measured_on)


def numbers_of(line: Line) -> dict[str, float | int | None]:
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


def signed(value: float | None) -> str:
    """Three significant digits with a sign."""
    return three(value) if value is None or value < 0 else f"+{three(value)}"


def p_text(p: float | None) -> str:
    """`0.0213`, or `< 0.001`."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _compared(rows: list[RowFacts], figure: FigureValues) -> FigureTable:
    values = [figure.values.get(row.name, {}) for row in rows]
    differences = [None, *(paired_difference(found, values[0]) for found in values[1:])]
    corrected = holm([difference.p if difference else None for difference in differences])
    lines = [
        Line(row.name, found, Spread.of(list(found.values())), difference, p)
        for row, found, difference, p in zip(rows, values, differences, corrected, strict=True)
    ]
    return FigureTable(figure, lines)
