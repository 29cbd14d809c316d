"""What a sweep's folder already holds: which rows are trained, evaluated, failed or missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jepalm.config import Config, read_config
from jepalm.errors import JepalmError
from jepalm.evaluation.rows import answers_alone
from jepalm.run import CONFIG, MANIFEST, RunFolder
from jepalm.sweep.file import Sweep, key_of
from jepalm.sweep.task import Evaluate, Task

Status = Literal["missing", "begun", "failed", "trained", "done"]


@dataclass(frozen=True)
class Cell:
    """One row under one seed, and the run that it has so far.

    Attributes:
        row: name of the row.
        seed: of the training.
        config: what to train.
        status: `begun` goes on at its checkpoint, `failed` had a loss that was not finite.
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
    def has_answers_alone(self) -> bool:
        """Whether it is evaluated by its answers to given pairs alone: causal, or conditioned on actions."""
        return answers_alone(self.config)


@dataclass(frozen=True)
class _Known:
    run: RunFolder
    manifest: dict[str, Any]

    @property
    def status(self) -> Status:
        if self.manifest.get("status") == "finished":
            return "trained"
        return "failed" if _lost(self.run) else "begun"


Evaluates = Callable[[Cell], Evaluate | None]
"""The evaluation that a cell needs, if any."""


def cells_of(sweep: Sweep, folder: Path, hashes: dict[str, str], evaluates: Evaluates) -> list[Cell]:
    """Find each row and seed among the runs of a folder, by its config and its data.

    Args:
        sweep: rows and seeds.
        folder: of the sweep's runs.
        hashes: content hash of each prepared data by its name.
        evaluates: which evaluation a cell needs.
    """
    known: dict[tuple[str, Any], list[_Known]] = {}
    for run in _runs(folder):
        try:
            config, manifest = read_config(run.config), run.read_manifest()
        except JepalmError:
            continue
        data = manifest.get("data")
        sha = data.get("content_sha256") if isinstance(data, dict) else None
        known.setdefault((key_of(config), sha), []).append(_Known(run, manifest))
    found = []
    for row in sweep.rows:
        for seed, config in row.configs.items():
            candidates = known.get((key_of(config), hashes[config.data.name]), [])
            found.append(_cell(Cell(row.name, seed, config), candidates, evaluates))
    return found


def task_of(cell: Cell, folder: Path, data_root: Path, evaluate: Evaluate | None, jobs: int) -> Task:
    """Return what is left to do for a cell."""
    return Task(
        row=cell.row,
        seed=cell.seed,
        config=cell.config,
        folder=folder,
        data_root=data_root,
        run=cell.run.path if cell.run is not None else None,
        evaluate=evaluate,
        jobs=jobs,
    )


def evaluation_file(run: RunFolder, split: str) -> Path:
    """Where a run's evaluation lies."""
    return run.report / f"evaluation-{split}.json"


def read_evaluation(run: RunFolder, evaluate: Evaluate) -> dict[str, Any] | None:
    """Return a run's evaluation if it is the one asked for, at the run's last step."""
    try:
        tree = json.loads(evaluation_file(run, evaluate.split).read_text(encoding="utf-8"))
        asked = evaluate.asked(int(run.read_manifest()["step"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return tree if isinstance(tree, dict) and tree.get("asked") == asked else None


def _cell(cell: Cell, candidates: list[_Known], evaluates: Evaluates) -> Cell:
    """The newest of the runs that are furthest."""
    order = ("begun", "failed", "trained")
    best = max(candidates, key=lambda known: (order.index(known.status), known.run.name), default=None)
    if best is None:
        return cell
    status, error = best.status, ""
    if status == "failed":
        error = str(best.manifest.get("error") or "the loss is not finite")
    evaluate = evaluates(cell)
    if status == "trained" and (evaluate is None or read_evaluation(best.run, evaluate) is not None):
        status = "done"
    return Cell(cell.row, cell.seed, cell.config, status, best.run, error)


def _runs(folder: Path) -> list[RunFolder]:
    if not folder.is_dir():
        return []
    inside = (path for path in sorted(folder.iterdir()) if not path.is_symlink())
    return [RunFolder(path) for path in inside if (path / MANIFEST).exists() and (path / CONFIG).exists()]


def _lost(run: RunFolder) -> bool:
    """Whether training ended in a loss that was not finite: it would do so again."""
    try:
        rows = run.metrics.read_text(encoding="utf-8", errors="replace").split("\n")  # not at U+2028
    except OSError:
        return False
    last = next((row for row in reversed(rows) if '"event"' in row), "{}")
    try:
        return json.loads(last).get("reason") == "not finite"
    except (ValueError, AttributeError):
        return False
