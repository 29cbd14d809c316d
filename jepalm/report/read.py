"""A run folder as numbers: config, manifest, rows, per-batch values, samples.

Rows are read leniently, since a run may have died in the middle of a line: what cannot be read is
counted, never an error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jepalm.config import load_file, read_config
from jepalm.errors import JepalmError
from jepalm.evaluation.rows import Evaluation
from jepalm.report.analysis.evaluation import read_evaluations
from jepalm.run import RunFolder, open_run

TERM_ORDER = ("reconstruction", "embedding", "generation", "length", "kl", "regularizer")

Row = dict[str, Any]


@dataclass(frozen=True)
class Series:
    """One quantity over steps, in ascending order; both arrays have the shape (N,)."""

    step: NDArray[np.int64]
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.step)

    def between(self, first: int, last: int) -> Series:
        """Keep the steps first..last, both included."""
        keep = (self.step >= first) & (self.step <= last)
        return Series(self.step[keep], self.value[keep])

    def finite(self) -> Series:
        """Keep the finite values."""
        keep = np.isfinite(self.value)
        return Series(self.step[keep], self.value[keep])

    @property
    def first(self) -> float | None:
        """The first value, if any."""
        return float(self.value[0]) if len(self) else None

    @property
    def last(self) -> float | None:
        """The last value, if any."""
        return float(self.value[-1]) if len(self) else None


@dataclass(frozen=True)
class Sample:
    """One generated text."""

    step: int
    source: str
    target: str
    generated: str


@dataclass(frozen=True)
class RunRecord:
    """What a run folder says."""

    run: RunFolder
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    train: list[Row]
    validation: list[Row]
    events: list[Row]
    samples: list[Sample]
    batches: Mapping[str, Series]
    """Raw value of each loss term at each step."""
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    """What `jepalm evaluate` measured, by split."""
    problems: list[str] = field(default_factory=list)
    """What could not be read, one line each."""

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.run.name

    @property
    def title(self) -> str:
        """The recipe's name."""
        for key in ("preset", "name"):
            if isinstance(self.manifest.get(key), str) and self.manifest[key]:
                return str(self.manifest[key])
        return str(self.config.get("preset") or self.name)

    @property
    def status(self) -> str:
        """The manifest's word, or `unknown`."""
        return str(self.manifest.get("status") or "unknown")

    @property
    def step(self) -> int:
        """The last step that the manifest or a row names."""
        rows: list[int] = [row["step"] for row in (*self.train, *self.validation)]
        return max([int(number(self.manifest.get("step")) or 0), *rows])

    @cached_property
    def terms(self) -> list[str]:
        """Names of the loss terms that this run recorded, in the order of the house."""
        names = set(self.batches)
        for row in self.train:
            for prefix in ("train/term/", "train/share/"):
                names.update(key.removeprefix(prefix) for key in row if key.startswith(prefix))
        known = [name for name in TERM_ORDER if name in names]
        return known + sorted(names.difference(TERM_ORDER))

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps an epoch: the manifest's, the config's, or what the rows imply."""
        given = number(self.manifest.get("steps_per_epoch")) or number(
            self.setting("training.steps_per_epoch")
        )
        if given and given >= 1:
            return int(given)
        for row in reversed(self.train):
            epoch = number(row.get("epoch"))
            if epoch and epoch > 0:
                return max(1, round(int(row["step"]) / epoch))
        return None

    @property
    def dim(self) -> int | None:
        """Width of the target's embeddings."""
        value = number(self.setting("model.latent.dim")) or number(self.setting("model.dim"))
        return int(value) if value else None

    def setting(self, dotted: str) -> Any:
        """Return a config value by its dotted key, or None."""
        node: Any = self.config
        for key in dotted.split("."):
            if not isinstance(node, Mapping):
                return None
            node = node.get(key)
        return node

    def series(self, key: str) -> Series:
        """Return a scalar over steps; `validation/...` keys come from validation rows."""
        return series(self.validation if key.startswith("validation/") else self.train, key)

    def weight(self, term: str) -> float | None:
        """A term's last recorded weight, else the config's."""
        recorded = self.series(f"train/weight/{term}").last
        return recorded if recorded is not None else number(self.setting(f"objective.{term}.weight"))


def read_run(path: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        UsageError: the path is missing, empty, or something other than a run.
    """
    run = open_run(path)
    problems: list[str] = []
    config = _read_config(run, problems)
    manifest: Mapping[str, Any] = {}
    try:
        manifest = run.read_manifest()
    except JepalmError as error:
        problems.append(error.message)
    kinds: dict[str, dict[int, Row]] = {"train": {}, "validation": {}}
    raw: dict[str, dict[int, float]] = {}
    events: list[Row] = []
    for row in _json_lines(run.metrics, problems):
        kind, step = row.get("kind"), number(row.get("step"))
        if step is None or step < 0:
            continue
        row["step"] = int(step)
        if kind == "event":
            events.append(row)
            if row.get("event") == "resumed":
                _forget_after(int(step), [*kinds.values(), *raw.values()])
                events = [event for event in events if event["step"] <= int(step)]
        elif kind in kinds:
            kinds[kind][int(step)] = row
            if kind == "train":
                _add_batches(raw, row)
    return RunRecord(
        run=run,
        config=config,
        manifest=manifest,
        train=[row for _, row in sorted(kinds["train"].items())],
        validation=[row for _, row in sorted(kinds["validation"].items())],
        events=events,
        samples=_read_samples(run.samples, problems),
        batches={term: _series(values) for term, values in raw.items() if values},
        evaluations=read_evaluations(run.report, problems),
        problems=problems,
    )


def series(rows: list[Row], key: str) -> Series:
    """Return the numbers under a key; rows without it are left out."""
    return _series({row["step"]: value for row in rows if (value := number(row.get(key))) is not None})


def number(value: Any) -> float | None:
    """Return a JSON value as a float, or None where it is none; not-a-number stays one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    if isinstance(value, str) and value.lower() in {"nan", "inf", "-inf", "infinity", "-infinity"}:
        return float(value)
    return None


def _series(values: Mapping[int, float]) -> Series:
    steps = sorted(values)
    return Series(
        np.array(steps, dtype=np.int64), np.array([values[step] for step in steps], dtype=np.float64)
    )


def _add_batches(raw: dict[str, dict[int, float]], row: Row) -> None:
    batches = row.pop("batches", None)
    if not isinstance(batches, Mapping):
        return
    for term, values in batches.items():
        if not isinstance(values, list):
            continue
        start = row["step"] - len(values) + 1
        for offset, value in enumerate(values):
            if (known := number(value)) is not None:
                raw.setdefault(str(term), {})[start + offset] = known


def _forget_after(step: int, tables: list[Any]) -> None:
    """Drop what a crashed stretch wrote beyond the checkpoint that the run went on from."""
    for table in tables:
        for later in [known for known in table if known > step]:
            del table[later]


def _read_config(run: RunFolder, problems: list[str]) -> Mapping[str, Any]:
    try:
        return read_config(run.config).model_dump(mode="json")  # lists, as a config of another version has
    except JepalmError:
        pass
    try:
        return load_file(run.config)
    except JepalmError as error:
        problems.append(error.message)
        return {}


def _read_samples(path: Path, problems: list[str]) -> list[Sample]:
    samples: dict[tuple[int, str], Sample] = {}
    for row in _json_lines(path, problems):
        step = number(row.get("step"))
        if step is None or not isinstance(row.get("generated"), str):
            continue
        source, target = str(row.get("source") or ""), str(row.get("target") or "")
        samples[int(step), source] = Sample(int(step), source, target, row["generated"])
    return sorted(samples.values(), key=lambda sample: sample.step)


def _json_lines(path: Path, problems: list[str]) -> Iterator[Row]:
    unreadable: list[int] = []
    last = 0
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            for last, line in enumerate(handle, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    unreadable.append(last)
                    continue
                step = row.get("step") if isinstance(row, dict) else None
                finite = isinstance(step, int | float) and not isinstance(step, bool) and math.isfinite(step)
                if isinstance(row, dict) and finite:
                    yield row
                else:
                    unreadable.append(last)
    except FileNotFoundError:
        return
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}")
        return
    if unreadable == [last]:
        problems.append(f"{path.name}: the last line is torn and was left out")
    elif unreadable:
        problems.append(
            f"{path.name}: {len(unreadable)} unreadable lines left out, first line {unreadable[0]}"
        )
