"""The sweep file: a base, table rows that change it, a grid, seeds; resolved to one config a row and seed."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from jepalm.config import (
    Config,
    Section,
    apply_overrides,
    assign,
    differences,
    flatten,
    from_mapping,
    load_file,
    load_preset,
    merge,
    preset_changes,
    resolve,
    validated,
)
from jepalm.errors import UsageError, nearest
from jepalm.evaluation.metrics import METRICS, find_metric

REFERENCE = "reference"
LOGGED_GROUPS = ("validation", "train", "speed")
"""Metrics of these groups are a run's last ones in `metrics.jsonl`; all others come from its evaluation."""


class RowChange(Section):
    """What a row changes over the base."""

    preset: str | None = None
    """A preset with a `base`: what it writes over that. One without: all of it, instead of the base."""
    data: str | None = None
    """Prepared data: a name, or a folder."""
    set: list[str] = Field([])
    """`section.key=value`, over everything else."""


class EvaluateSettings(Section):
    """How each run is evaluated, as `jepalm evaluate` would."""

    split: Literal["train", "validation", "test", "compositional", "longer"] = "validation"
    prompts: int | None = Field(None, ge=2)
    """Of given pairs 10,000 when empty, else 1,000."""
    samples: int = Field(2, ge=2)
    temperature: float = Field(1.0, ge=0)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    baseline: str | None = None
    """A run's folder or a row's name whose texts are measured as a control. A causal one scores all text."""
    scorer: str | None = None
    """A causal run's folder or a row's name that scores all text instead."""
    reading: Literal["boundary", "letter"] = "boundary"
    r"""Of a `\b` in a regular expression."""
    databases: Path | None = None
    """Folder of sqlite files in which answers in SQL are executed."""


class SweepFile(Section):
    """The whole file."""

    name: str = Field("", max_length=100)
    """Name of the sweep's folder; the file's own when empty."""
    preset: str | None = None
    """The base."""
    config: Path | None = None
    """The base as a YAML file of settings."""
    set: list[str] = Field([])
    """`section.key=value` of all rows."""
    seeds: list[int] = Field([0, 1, 2], min_length=1)
    rows: dict[str, RowChange] = Field({})
    """Row name to its change; the first row is the reference."""
    grid: dict[str, list[Any]] = Field({})
    """Dotted key to its values; every combination is a row, or a row each of `rows`."""
    evaluate: EvaluateSettings = EvaluateSettings()
    metrics: list[str] = Field(
        ["embedding/r2", "decoder/generation_ce", "text/valid_words", "scorer/gap"], min_length=1
    )
    """Metrics of the table."""

    @field_validator("rows", mode="before")
    @classmethod
    def _short_forms(cls, rows: Any) -> Any:
        """A row may be nothing, a preset's name, a setting, or a list of these."""
        if not isinstance(rows, Mapping):
            return rows
        return {str(name): _row(row) for name, row in rows.items()}


@dataclass(frozen=True)
class SweepRow:
    """One row: its name and its config under each seed."""

    name: str
    configs: dict[int, Config]

    @property
    def config(self) -> Config:
        """Its config under the first seed."""
        return next(iter(self.configs.values()))


@dataclass(frozen=True)
class Sweep:
    """A sweep file, resolved."""

    name: str
    path: Path
    rows: list[SweepRow]
    seeds: list[int]
    evaluate: EvaluateSettings
    metrics: list[str]

    @property
    def reference(self) -> SweepRow:
        """The row that all others are compared with."""
        return self.rows[0]

    @property
    def needs_evaluation(self) -> bool:
        """Whether a metric of the table comes from an evaluation."""
        return any(not is_logged(name) for name in self.metrics)

    def changes(self, row: SweepRow) -> dict[str, Any]:
        """Dotted keys that differ from the reference, with the row's values."""
        found = differences(self.reference.config, row.config)
        return {key: value for key, (_, value) in found.items() if not key.startswith("hardware.")}


def read_sweep(path: Path, baseline: str | None = None, scorer: str | None = None) -> Sweep:
    """Read a sweep file and resolve every row.

    Args:
        path: the file.
        baseline: instead of the file's `evaluate.baseline`.
        scorer: instead of the file's `evaluate.scorer`.

    Raises:
        UsageError: one line that names the row, the key, what is wrong and the nearest valid name.
    """
    file = validated(SweepFile, load_file(path, "jepalm sweep takes a YAML file"), str(path), "sweep")
    if file.preset is not None and file.config is not None:
        raise UsageError(f"{path}: preset and config are both given", "keep one of them")
    for name in file.metrics:
        _check_metric(name, str(path))
    for what, given in (("seeds", file.seeds), ("metrics", file.metrics)):
        if len({*given}) < len(given):
            raise UsageError(f"{path}: {what} holds the same one twice", "name each once")
    named = {"baseline": baseline, "scorer": scorer}
    evaluate = file.evaluate.model_copy(update={key: run for key, run in named.items() if run is not None})
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file.name or path.stem).strip("-.") or "sweep"
    sweep = Sweep(name, path, _rows(file, path), file.seeds, evaluate, file.metrics)
    for row, other in itertools.combinations(sweep.rows, 2):
        if key_of(row.config) == key_of(other.config):
            raise UsageError(f"{path}: rows {row.name} and {other.name} are the same", "remove one of them")
    return sweep


def key_of(config: Config) -> str:
    """What two configs share that train the same: everything but the hardware."""
    return json.dumps(config.model_dump(exclude={"hardware"}), sort_keys=True)


def is_logged(name: str) -> bool:
    """Whether a metric is read from `metrics.jsonl`."""
    return name.partition("/")[0] in LOGGED_GROUPS


def is_of_pairs(name: str) -> bool:
    """Whether a metric is measured on answers to given pairs."""
    metric = find_metric(name)
    return metric is not None and metric.of_pairs


def _row(row: Any) -> Any:
    if row is None:
        return {}
    parts = [row] if isinstance(row, str) else row
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        return row
    presets = [part for part in parts if "=" not in part]
    if len(presets) > 1:
        raise UsageError(f"a row names {' and '.join(presets)}", "one preset a row, the rest as key=value")
    return {"preset": presets[0] if presets else None, "set": [part for part in parts if "=" in part]}


def _rows(file: SweepFile, path: Path) -> list[SweepRow]:
    base = resolve(file.preset, file.config).model_dump()
    changes = file.rows or {"" if file.grid else REFERENCE: RowChange()}
    for key, values in file.grid.items():
        if not values:
            raise UsageError(f"{path}: grid.{key} holds no value", "give a list of values")
    rows: dict[str, SweepRow] = {}
    for name, change in changes.items():
        for point in itertools.product(*file.grid.values()):
            chosen = dict(zip(file.grid, point, strict=True))
            full = ", ".join(part for part in (name, _point_name(chosen)) if part)
            if full in rows:
                raise UsageError(f"{path}: two rows are named {full}", "give each another name")
            try:
                rows[full] = _resolved(full, base, file, change, chosen)
            except UsageError as error:
                raise UsageError(f"{path}: row {full}: {error.message}", error.hint) from None
    return list(rows.values())


def _resolved(
    name: str, base: Mapping[str, Any], file: SweepFile, change: RowChange, point: Mapping[str, Any]
) -> SweepRow:
    tree = copy.deepcopy(dict(base))
    changes: dict[str, Any] = {}
    if change.preset is not None:
        start, changes = preset_changes(change.preset)
        if start is None:
            tree, changes = load_preset(change.preset), {}
    preset = tree["preset"]
    apply_overrides(tree, file.set)
    merge(tree, changes)
    if change.data is not None:
        assign(tree, "data.name", change.data)
    for key, value in point.items():
        assign(tree, key, value)
    apply_overrides(tree, change.set)
    if tree["preset"] != preset:
        raise UsageError("preset= is no setting", "name the preset itself")
    settings = (*point, *(text.partition("=")[0].strip() for text in (*file.set, *change.set)))
    if "training.seed" in settings:
        raise UsageError("training.seed is no setting of a sweep", "seeds: [0, 1, 2] gives them")
    configs = {}
    for seed in file.seeds:
        assign(tree, "training.seed", seed)
        configs[seed] = from_mapping(tree)
    return SweepRow(name, configs)


def _point_name(point: Mapping[str, Any]) -> str:
    """`lr=0.001, batch_size=8`: the last word of each key where that tells them apart."""
    last = [key.rsplit(".", 1)[-1] for key in point]
    names = last if len({*last}) == len(last) else list(point)
    return ", ".join(f"{name}={_text(value)}" for name, value in zip(names, point.values(), strict=True))


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "+".join(f"{key}:{_text(part)}" for key, part in flatten(value))
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _check_metric(name: str, where: str) -> None:
    if find_metric(name) is None and not (is_logged(name) and "/" in name):
        hint = nearest(name, METRICS) or "validation/..., or a metric of jepalm evaluate --json"
        raise UsageError(f"{where}: unknown metric {name}", hint)
