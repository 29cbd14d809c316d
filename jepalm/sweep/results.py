"""The metrics of a sweep's runs, read from their evaluations and logs."""

from __future__ import annotations

import math
from typing import Any

from jepalm.evaluation.metrics import find_metric
from jepalm.report.analysis.sweep import CONTROLS, MetricValues, RowFacts, SweepTable, sweep_table
from jepalm.report.read import number, read_run
from jepalm.sweep.file import Sweep, is_logged
from jepalm.sweep.runs import Evaluates, SweepCell, as_yaml

Evaluated = dict[str, dict[str, Any]]
"""Values of an evaluation, and of its controls, by the metric's name."""


def table_of(
    sweep: Sweep, cells: list[SweepCell], evaluates: Evaluates, troubles: dict[tuple[str, int], str]
) -> SweepTable:
    """Read every metric of every finished run and compare the rows.

    Args:
        sweep: rows, seeds and metrics.
        cells: what there is of them.
        evaluates: which evaluation a cell has.
        troubles: why a row and seed has no metrics, one line.
    """
    found = [(cell, evaluated_of(cell, evaluates)) for cell in cells]
    names = sweep.metrics
    values = {
        (cell.row, cell.seed): {name: value_of(cell, rows, name) for name in names} for cell, rows in found
    }
    facts = []
    for row in sweep.rows:
        own = [cell for cell in cells if cell.row == row.name]
        facts.append(
            RowFacts(
                row.name,
                ", ".join(f"{key}={as_yaml(value)}" for key, value in sweep.changes(row).items()),
                {cell.seed: cell.run.name for cell in own if cell.run is not None},
                [f"{row.name} seed {cell.seed}: {why}" for cell in own if (why := _trouble(cell, troubles))],
                [cell.seed for cell in own if cell.status != "done"],
            )
        )
    evaluations = [rows for _, rows in found if rows]
    metrics = [
        _metric_values(
            name, {row.name: _by_seed(values, row.name, sweep.seeds, name) for row in sweep.rows}, evaluations
        )
        for name in names
    ]
    return sweep_table(sweep.name, sweep.seeds, facts, metrics, _measured_on(sweep, cells, evaluates))


def evaluated_of(cell: SweepCell, evaluates: Evaluates) -> Evaluated:
    """What a cell's evaluation says of each metric; empty where it has none."""
    request = evaluates(cell)
    if cell.run is None or cell.status != "done" or request is None:
        return {}
    tree = request.read(cell.run) or {}
    return {row["name"]: row for row in tree.get("rows", [])}


def value_of(cell: SweepCell, evaluated: Evaluated, name: str) -> float | None:
    """A metric of one run; None where it has none or it is not finite."""
    if cell.run is None or cell.status != "done":
        return None
    if is_logged(name):
        value = read_run(cell.run.path).series(name).last
    else:
        value = number(evaluated.get(name, {}).get("model"))
    return value if value is not None and math.isfinite(value) else None


def _metric_values(
    name: str, values: dict[str, dict[int, float]], evaluations: list[Evaluated]
) -> MetricValues:
    rows = [found[name] for found in evaluations if name in found]
    controls: dict[str, float] = {}
    for row in rows:
        named = {title: row.get(column) for column, title in CONTROLS.items()}
        for title, value in {**named, **row["controls"]}.items():
            if value is not None and (title in CONTROLS.values() or name.startswith("task/")):
                controls.setdefault(title, value)
    metric = find_metric(name)
    label, unit = (metric.label, metric.unit) if metric else (name, "")
    return MetricValues(name, label, unit, values, controls)


def _by_seed(
    values: dict[tuple[str, int], dict[str, float | None]], row: str, seeds: list[int], name: str
) -> dict[int, float]:
    found = {seed: values[row, seed][name] for seed in seeds}
    return {seed: value for seed, value in found.items() if value is not None}


def _trouble(cell: SweepCell, troubles: dict[tuple[str, int], str]) -> str:
    return cell.error or troubles.get((cell.row, cell.seed), "")


def _measured_on(sweep: Sweep, cells: list[SweepCell], evaluates: Evaluates) -> str:
    """Prompts and scorer of the texts, and the number of answers, each of the first run that has them."""
    said: dict[str, str] = {}
    for cell in cells:
        request = evaluates(cell)
        if request is None or cell.run is None or cell.status != "done":
            continue
        tree = request.read(cell.run) or {}
        if tree.get("n_samples"):
            itself = ", which finds its own text likelier than real text" if tree["scored_by_ngram"] else ""
            text = f"{tree['n_prompts']:,} prompts of {tree['split']}; scorer: {tree['scorer']}{itself}"
            said.setdefault("texts", text)
        if tree.get("n_answers"):
            said.setdefault(
                "answers", f"{tree['n_answers']:,} answers to {tree['split']}, the likeliest text"
            )
    return "; ".join(said.values())
