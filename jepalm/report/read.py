"""A run folder as numbers: config, manifest, log points, per-batch values, samples, evaluations.

Files are read leniently, since a run may have died in the middle of a line: what cannot be read is
counted, never an error.
"""

from __future__ import annotations

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
from jepalm.numbers import counted
from jepalm.reading import MAX_INTEGER, read_json, read_json_lines
from jepalm.run import RunFolder, open_run

SPLITS = ("validation", "test", "compositional", "longer", "train")
"""Splits of evaluations, in the order in which they are shown."""

MOST_TERMS = 100
"""Loss terms of a run; what names more is not its log."""

LogPoint = dict[str, Any]
"""A line of `metrics.jsonl`."""


@dataclass(frozen=True)
class Series:
    """One quantity over steps, in ascending order; both arrays have the shape (N,)."""

    step: NDArray[np.int64]
    value: NDArray[np.float64]

    @classmethod
    def of(cls, values: Mapping[int, float]) -> Series:
        """Of values by step."""
        steps = sorted(values)
        return cls(np.array(steps, dtype=np.int64), np.array([values[step] for step in steps], dtype=float))

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
class TermRecord:
    """A loss term as the run's manifest describes it (`LossTerm` of `jepalm/objective/terms.py`)."""

    name: str
    label: str
    unit: str = ""
    nats: bool | None = None
    """Whether it is a cross-entropy; None: the manifest of an older run does not say."""
    constant: bool = False
    validation: str | None = None


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
    train: list[LogPoint]
    validation: list[LogPoint]
    events: list[LogPoint]
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
        named = (self.manifest.get("preset"), self.manifest.get("name"), self.config.get("preset"))
        return next((name for name in named if isinstance(name, str) and name), self.name)

    @property
    def status(self) -> str:
        """The manifest's word, or `unknown`."""
        return str(self.manifest.get("status") or "unknown")

    @property
    def step(self) -> int:
        """The last step that the manifest or a log point names."""
        logged: list[int] = [point["step"] for point in (*self.train, *self.validation)]
        return max([_whole(self.manifest.get("step")) or 0, *logged])

    @cached_property
    def terms(self) -> dict[str, TermRecord]:
        """The loss terms that this run recorded, in the manifest's order; others as they were logged."""
        names = dict.fromkeys(self.batches)
        for point in self.train:
            for prefix in ("train/term/", "train/share/"):
                names |= dict.fromkeys(key.removeprefix(prefix) for key in point if key.startswith(prefix))
            if len(names) > MOST_TERMS:
                names = dict.fromkeys(list(names)[:MOST_TERMS])
                break
        given = self.manifest.get("terms")
        described = (
            [_term(tree) for tree in given if isinstance(tree, dict)] if isinstance(given, list) else []
        )
        known = {term.name: term for term in described if term.name in names}
        return known | {name: TermRecord(name, name) for name in names if name not in known}

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps an epoch: the manifest's, the config's, or what the log points imply."""
        given = number(self.manifest.get("steps_per_epoch")) or number(
            self.setting("training.steps_per_epoch")
        )
        if whole := _whole(given):
            return whole
        for point in reversed(self.train):
            epoch = number(point.get("epoch"))
            if epoch and epoch > 0 and (whole := _whole(max(1.0, point["step"] / epoch))):
                return whole
        return None

    @property
    def dim(self) -> int | None:
        """Width of the target's embeddings."""
        return _whole(number(self.setting("model.latent.dim")) or number(self.setting("model.dim")))

    def setting(self, dotted: str) -> Any:
        """Return a config value by its dotted key, or None."""
        node: Any = self.config
        for key in dotted.split("."):
            if not isinstance(node, Mapping):
                return None
            node = node.get(key)
        return node

    def series(self, key: str) -> Series:
        """Return a scalar over steps; log points without it are left out."""
        points = self.validation if key.startswith("validation/") else self.train
        found = {point["step"]: number(point.get(key)) for point in points}
        return Series.of({step: value for step, value in found.items() if value is not None})

    def by_term(self, prefix: str) -> dict[str, Series]:
        """Return the finite values under `prefix` + term of each term that has some."""
        found = {term: self.series(prefix + term).finite() for term in self.terms}
        return {term: series for term, series in found.items() if len(series)}

    def held_out(self, term: str) -> Series:
        """Return a term's finite values on held-out data; empty where it is not validated."""
        key = self.terms[term].validation if term in self.terms else None
        return self.series(key).finite() if key else Series.of({})

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
    kinds: dict[str, dict[int, LogPoint]] = {"train": {}, "validation": {}}
    raw: dict[str, dict[int, float]] = {}
    events: list[LogPoint] = []
    for point in _json_lines(run.metrics, problems):
        kind, step = point.get("kind"), int(point["step"])
        if step < 0:
            continue
        point["step"] = step
        if kind == "event":
            events.append(point)
            if point.get("event") == "resumed":
                _forget_after(step, [*kinds.values(), *raw.values()])
                events = [event for event in events if event["step"] <= step]
        elif kind in kinds:
            kinds[kind][step] = point
            if kind == "train":
                _add_batches(raw, point)
    return RunRecord(
        run=run,
        config=config,
        manifest=manifest,
        train=[point for _, point in sorted(kinds["train"].items())],
        validation=[point for _, point in sorted(kinds["validation"].items())],
        events=events,
        samples=_read_samples(run.samples, problems),
        batches={term: Series.of(values) for term, values in raw.items() if values},
        evaluations=_read_evaluations(run.report, problems),
        problems=problems,
    )


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


def _whole(value: Any) -> int | None:
    """A JSON value as a number of things, from 1 on, or None where it is none."""
    known = number(value)
    return round(known) if known is not None and 1 <= known <= MAX_INTEGER else None


def _term(tree: Mapping[str, Any]) -> TermRecord:
    name, validation = str(tree.get("name")), tree.get("validation")
    return TermRecord(
        name,
        str(tree.get("label") or name),
        str(tree.get("unit") or ""),
        nats=bool(tree.get("nats")),
        constant=bool(tree.get("constant")),
        validation=str(validation) if validation else None,
    )


def _add_batches(raw: dict[str, dict[int, float]], point: LogPoint) -> None:
    batches = point.pop("batches", None)
    for term, values in batches.items() if isinstance(batches, Mapping) else ():
        for place, value in enumerate(reversed(values) if isinstance(values, list) else ()):
            if (known := number(value)) is not None and (str(term) in raw or len(raw) < MOST_TERMS):
                raw.setdefault(str(term), {})[point["step"] - place] = known


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
    for line in _json_lines(path, problems):
        if isinstance(line.get("generated"), str):
            step, source, target = (
                int(line["step"]),
                str(line.get("source") or ""),
                str(line.get("target") or ""),
            )
            samples[step, source] = Sample(step, source, target, line["generated"])
    return sorted(samples.values(), key=lambda sample: sample.step)


def _read_evaluations(folder: Path, problems: list[str]) -> dict[str, Evaluation]:
    """The evaluations of a run by split."""
    found = {}
    for split in SPLITS:
        path = folder / f"evaluation-{split}.json"
        try:
            found[split] = Evaluation.from_json(read_json(path))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, OverflowError, RecursionError):
            problems.append(f"{path.name} cannot be read: jepalm evaluate --split {split} writes it anew")
    return found


def _json_lines(path: Path, problems: list[str]) -> Iterator[LogPoint]:
    """The objects of a file that have a finite step."""
    unreadable: list[int] = []
    last = 0
    try:
        for last, point in read_json_lines(path):
            step = point.get("step") if point is not None else None
            known = isinstance(step, int | float) and not isinstance(step, bool) and 0 <= step <= MAX_INTEGER
            if point is not None and known:
                yield point
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
            f"{path.name}: {counted(len(unreadable), 'unreadable line')} left out, first line {unreadable[0]}"
        )
