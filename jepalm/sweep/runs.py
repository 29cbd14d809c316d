"""What a sweep's folder already holds: which rows are trained, evaluated, failed or missing."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from jepalm.config import Config, differences, read_config, resolve
from jepalm.errors import JepalmError
from jepalm.reading import read_json_lines
from jepalm.run import CONFIG, MANIFEST, RunFolder, data_of
from jepalm.sweep.evaluations import EvaluationRequest
from jepalm.sweep.file import Sweep, key_of

NAME_LENGTH = 40
"""Characters of a run's name that its folder keeps."""

Status = Literal["missing", "begun", "failed", "trained", "done"]


@dataclass(frozen=True)
class SweepCell:
    """One table row under one seed, and the run that it has so far.

    Attributes:
        row: name of the row.
        seed: of the training.
        config: what to train.
        status: `begun` goes on at its checkpoint, `failed` had a loss that was not finite, `trained` lacks
            its evaluation.
        run: its run; None where there is none.
        error: why it failed.
    """

    row: str
    seed: int
    config: Config
    status: Status = "missing"
    run: RunFolder | None = None
    error: str = ""

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.row} seed {self.seed}"

    def train_arguments(self, folder: Path, data_root: Path, threads: int | None) -> list[str]:
        """The command line that trains it: from its last checkpoint where it has one, else anew.

        Args:
            folder: of the sweep's runs.
            data_root: folder of prepared data.
            threads: of the CPU, where the config names no number.
        """
        hardware = self.config.hardware
        if hardware.threads is None and threads is not None:
            hardware = hardware.model_copy(update={"threads": threads})
        if self.run is not None and _has_checkpoint(self.run):
            settings = {f"hardware.{key}": value for key, value in hardware.model_dump().items()}
            start = ["--resume", str(self.run.path)]
        else:
            config = self.config.model_copy(update={"hardware": hardware})
            found = differences(resolve(config.preset), config)
            settings = {key: value for key, (_, value) in found.items()}
            start = ["--preset", config.preset, "--name", run_name(self.row, self.seed)]
            start += ["--run-dir", str(folder)]
        written = [f"{key}={as_yaml(value)}" for key, value in settings.items()]
        return ["train", *start, "--data-dir", str(data_root), *written]


Evaluates = Callable[[SweepCell], EvaluationRequest | None]
"""The evaluation that a cell needs, if any."""


def cells_of(sweep: Sweep, folder: Path, hashes: dict[str, str], evaluates: Evaluates) -> list[SweepCell]:
    """Find each row and seed among the runs of a folder, by its config and its data.

    Args:
        sweep: rows and seeds.
        folder: of the sweep's runs.
        hashes: content hash of each prepared data by its name.
        evaluates: which evaluation a cell needs.
    """
    known: dict[tuple[str, str], list[_Known]] = {}
    for run in _runs(folder):
        try:
            key, manifest = _key_at(run.config, run.config.stat().st_mtime_ns), run.read_manifest()
        except (JepalmError, OSError):
            continue
        sha = data_of(manifest).get("content_sha256")
        known.setdefault((key, str(sha)), []).append(_Known(run, manifest))
    found = []
    for row in sweep.rows:
        for seed, config in row.configs.items():
            candidates = known.get((key_of(config), hashes[config.data.name]), [])
            found.append(_with_run(SweepCell(row.name, seed, config), candidates, evaluates))
    return found


def run_name(row: str, seed: int) -> str:
    """Name of a run's folder after its date: the row, shortened where it is long, and the seed."""
    end = f"-seed{seed}"
    start = re.sub(r"[^A-Za-z0-9._-]+", "-", row).strip("-.") or "row"
    return start[: NAME_LENGTH - len(end)].rstrip("-.") + end


def as_yaml(value: Any) -> str:
    """A value as it stands behind `section.key=`, in one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=2**31).removesuffix("\n...\n").strip()


@dataclass(frozen=True)
class _Known:
    run: RunFolder
    manifest: dict[str, Any]

    @functools.cached_property
    def status(self) -> Status:
        if self.manifest.get("status") == "finished":
            return "trained"
        return "failed" if _was_not_finite(self.run) else "begun"


def _with_run(cell: SweepCell, candidates: list[_Known], evaluates: Evaluates) -> SweepCell:
    """The cell with the newest of those of its runs that are furthest."""
    order = ("begun", "failed", "trained")
    best = max(candidates, key=lambda known: (order.index(known.status), known.run.name), default=None)
    if best is None:
        return cell
    status, error = best.status, ""
    if status == "failed":
        error = str(best.manifest.get("error") or "the loss is not finite")
    request = evaluates(cell)
    if status == "trained" and (request is None or request.read(best.run) is not None):
        status = "done"
    return replace(cell, status=status, run=best.run, error=error)


@functools.cache
def _key_at(path: Path, modified: int) -> str:
    """What `key_of` gives for the config file at a path, as it was at a time."""
    return key_of(read_config(path))


def _runs(folder: Path) -> list[RunFolder]:
    if not folder.is_dir():
        return []
    inside = (path for path in sorted(folder.iterdir()) if not path.is_symlink())
    return [RunFolder(path) for path in inside if (path / MANIFEST).exists() and (path / CONFIG).exists()]


def _was_not_finite(run: RunFolder) -> bool:
    """Whether training ended in a loss that was not finite: it would do so again."""
    reason: Any = None
    with contextlib.suppress(OSError):
        for _, row in read_json_lines(run.metrics):
            if row is not None and row.get("kind") == "event":
                reason = row.get("reason")
    return bool(reason == "not finite")


def _has_checkpoint(run: RunFolder) -> bool:
    from jepalm.training.checkpoint import find_checkpoint

    try:
        find_checkpoint(run)
    except JepalmError:
        return False
    return True
