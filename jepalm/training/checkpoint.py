"""Checkpoints: one folder each, whole or not there, tensors and JSON only.

    checkpoints/step-00001000/{model.safetensors, optimizer.safetensors, state.json, files.json}
    checkpoints/best -> step-00000500

A folder is written under a temporary name, every file is flushed to disk, and then it is renamed.
A folder whose files do not match `files.json` is not a checkpoint. Learning rate, data order and
random numbers are functions of the step, so the step is all that resuming needs beside the tensors.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from jepalm.errors import JepalmError, UsageError
from jepalm.run import RunFolder
from jepalm.training.optimizer import Optimizer, load_named_state, named_state

MODEL, OPTIMIZER, STATE, FILES = "model.safetensors", "optimizer.safetensors", "state.json", "files.json"
BEST = "best"
_STEP = re.compile(r"step-(\d{8,})$")


@dataclass
class TrainingState:
    """What changes while training beside the tensors, and is saved with them.

    Attributes:
        step: steps done.
        seconds: of training.
        flops: of all steps.
        best: `validation/loss` of the best checkpoint.
        best_step: of that checkpoint.
        lowest: the lowest `validation/loss`, with a checkpoint or without.
        not_lower: validations since that one.
        resumed: steps at which the run was taken up again.
    """

    step: int = 0
    seconds: float = 0.0
    flops: int = 0
    best: float = float("inf")
    best_step: int = -1
    lowest: float = float("inf")
    not_lower: int = 0
    resumed: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    path: Path
    step: int

    def state(self) -> dict[str, Any]:
        """What was saved beside the tensors."""
        state: dict[str, Any] = json.loads((self.path / STATE).read_text(encoding="utf-8"))
        return state


def save_checkpoint(
    run: RunFolder, objective: nn.Module, optimizer: Optimizer, state: dict[str, Any]
) -> Checkpoint:
    """Write a checkpoint of `state["step"]`.

    Raises:
        JepalmError: not enough disk space, or the folder cannot be written. Nothing is left behind.
    """
    step = int(state["step"])
    target = run.checkpoints / f"step-{step:08d}"
    temporary = run.checkpoints / f".step-{step:08d}.tmp-{os.getpid()}"
    aside = run.checkpoints / f".step-{step:08d}.old-{os.getpid()}"
    model = {name: tensor.detach().cpu().contiguous() for name, tensor in objective.state_dict().items()}
    moments = {
        name: tensor.detach().cpu().contiguous() for name, tensor in named_state(optimizer, objective).items()
    }
    size = sum(t.numel() * t.element_size() for t in (*model.values(), *moments.values()))
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(temporary).free
        if free < size * 1.05:
            raise OSError(errno.ENOSPC, f"{size / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free")
        save_file(model, temporary / MODEL)
        save_file(moments, temporary / OPTIMIZER)
        (temporary / STATE).write_text(json.dumps(state), encoding="utf-8")
        files = {name: _fingerprint(temporary / name) for name in (MODEL, OPTIMIZER, STATE)}
        (temporary / FILES).write_text(json.dumps(files, indent=1), encoding="utf-8")
        for name in (*files, FILES):
            _flush(temporary / name)
        if target.exists():
            target.rename(aside)
        temporary.rename(target)
        _flush(run.checkpoints)
    except (OSError, SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise JepalmError(
            f"cannot save {target}: {reason}", "free disk space, or lower training.keep"
        ) from None
    finally:
        if aside.exists() and not target.exists():
            aside.rename(target)
        for folder in (temporary, aside):
            shutil.rmtree(folder, ignore_errors=True)
    return Checkpoint(target, step)


def mark_best(checkpoint: Checkpoint) -> None:
    """Point `best` to a checkpoint."""
    link = checkpoint.path.parent / f".best-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(checkpoint.path.name)
    link.replace(checkpoint.path.parent / BEST)


def prune(run: RunFolder, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints and the best, and what a killed process left half-written.

    A folder that resists is left.
    """
    best = (run.checkpoints / BEST).resolve()
    for _, folder in _step_folders(run)[keep:]:
        if folder.resolve() != best:
            shutil.rmtree(folder, ignore_errors=True)
    for folder in run.checkpoints.glob(".step-*"):
        shutil.rmtree(folder, ignore_errors=True)


def find_checkpoint(run: RunFolder, which: str = "last") -> Checkpoint:
    """Find a whole checkpoint: `last`, `best`, or a step's number or folder name.

    `last` goes back past damaged ones.

    Raises:
        UsageError: there is none, or the one named is missing.
        JepalmError: the one named is damaged.
    """
    folders = _step_folders(run)
    if not folders:
        raise UsageError(f"{run.path} has no checkpoint yet", "let jepalm train reach its first one")
    if which == "last":
        for step, folder in folders:
            if not problem(folder):
                return Checkpoint(folder, step)
        raise JepalmError(f"every checkpoint of {run.path} is damaged", "train again")
    name = (run.checkpoints / BEST).resolve().name if which == BEST else _folder_name(which)
    found = [folder for _, folder in folders if folder.name == name]
    if not found:
        best = f"{BEST}, " if (run.checkpoints / BEST).exists() else ""
        known = ", ".join(folder.name for _, folder in folders)
        raise UsageError(f"{run.path} has no checkpoint {which}", f"there are: last, {best}{known}")
    folder = found[0]
    damage = problem(folder)
    if damage:
        raise JepalmError(f"checkpoint {folder.name} is damaged: {damage}", "use another with --checkpoint")
    return Checkpoint(folder, int(folder.name.removeprefix("step-")))


def problem(folder: Path) -> str:
    """What is wrong with a checkpoint folder, in a few words; empty when it is whole."""
    try:
        files = json.loads((folder / FILES).read_text(encoding="utf-8"))
        for name in (MODEL, OPTIMIZER, STATE):
            if _fingerprint(folder / name) != files[name]:
                return f"{name} does not match its fingerprint"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{FILES} cannot be read"
    return ""


def load_model(checkpoint: Checkpoint, objective: nn.Module) -> None:
    """Load weights into an objective of the same config.

    Raises:
        JepalmError: the weights belong to another config.
    """
    try:
        objective.load_state_dict(load_file(checkpoint.path / MODEL))
    except (RuntimeError, SafetensorError):
        hint = "the run's config.yaml was changed after training"
        raise JepalmError(f"{checkpoint.path} does not fit the model of its config", hint) from None


def load_optimizer(checkpoint: Checkpoint, objective: nn.Module, optimizer: Optimizer) -> None:
    """Load the optimizer's moments."""
    load_named_state(optimizer, objective, load_file(checkpoint.path / OPTIMIZER))


def checkpoint_bytes(objective: nn.Module) -> int:
    """Size of a checkpoint: the weights and two moments of each."""
    return 3 * sum(p.numel() * p.element_size() for p in objective.parameters())


def _folder_name(which: str) -> str:
    return f"step-{int(which):08d}" if which.isdecimal() else Path(which).name


def _step_folders(run: RunFolder) -> list[tuple[int, Path]]:
    if not run.checkpoints.is_dir():
        return []
    found = [(_STEP.fullmatch(folder.name), folder) for folder in run.checkpoints.iterdir()]
    return sorted(((int(match[1]), folder) for match, folder in found if match), reverse=True)


def _fingerprint(path: Path) -> dict[str, Any]:
    with open(path, "rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
