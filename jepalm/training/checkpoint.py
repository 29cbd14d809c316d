"""Checkpoints: one folder each, whole or not there, tensors and JSON only.

    checkpoints/step-00001000/{model.safetensors, optimizer.safetensors, state.json, files.json}
                                                  optimizer/ in its place, where processes share the moments
    checkpoints/best -> step-00000500

A folder is written under a temporary name, every file is flushed to disk, and then it is renamed.
A folder whose files do not match `files.json` is not a checkpoint. The `state.json` of the newest one is the
record of the run: `best`, the checkpoints that are kept and the manifest follow from it (`settle`), so that
a process may be killed between any two writes. Learning rate, data order and
random numbers are functions of the step, so the step is all that resuming needs beside the tensors.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from jepalm.atomic import flush_folder, replace_link, sweep_temporary
from jepalm.errors import DamageWarning, JepalmError, UsageError
from jepalm.reading import read_json
from jepalm.run import RunFolder, checkpoint_name, step_of
from jepalm.training.optimizer import Optimizer, load_named_state, named_state

MODEL, OPTIMIZER, STATE, FILES = "model.safetensors", "optimizer.safetensors", "state.json", "files.json"
SHARDS = "optimizer"
"""Folder of the moments where each process holds a part."""
BEST = "best"


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
    rollbacks: int = 0
    """How often training went back to a checkpoint for a loss that was not finite."""
    skipped: int = 0
    """Steps whose batches were left out by that: step s trains on the batch of step s + skipped."""
    losses: list[float] = field(default_factory=list)
    """Of the last steps of the phase, up to the last row; what a spike is compared with."""
    unlogged: dict[str, Any] = field(default_factory=dict)
    """The steps since the last row (`RecentSteps.saved`), where a signal came between two."""

    @classmethod
    def of(cls, tree: Any) -> TrainingState:
        """Of what was saved; what an older version did not save has its default.

        Raises:
            ValueError: it is something else.
        """
        try:
            known = {one.name for one in fields(cls)}
            state = cls(**{key: value for key, value in tree.items() if key in known})
            whole = (state.step, state.flops, state.best_step, state.rollbacks, state.skipped, *state.resumed)
            right = all(type(number) is int for number in whole) and state.step >= 0 <= state.skipped
            numbers = (state.seconds, state.best, *state.losses)
            right = right and all(isinstance(number, int | float) for number in numbers)
            right = right and isinstance(state.losses, list) and isinstance(state.unlogged, dict)
        except (AttributeError, TypeError):
            right = False
        if not right:
            raise ValueError("not the state of a training")
        return state


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    path: Path
    step: int

    @classmethod
    def of(cls, run: RunFolder, step: int) -> Checkpoint:
        """A run's checkpoint of a step."""
        return cls(run.checkpoints / checkpoint_name(step), step)

    def state(self) -> TrainingState:
        """What was saved beside the tensors.

        Raises:
            JepalmError: it cannot be read.
        """
        try:
            return TrainingState.of(read_json(self.path / STATE))
        except (OSError, ValueError):
            raise JepalmError(f"{self.path / STATE} cannot be read", "use another checkpoint") from None


def save_checkpoint(
    run: RunFolder, objective: nn.Module, optimizer: Optimizer, state: dict[str, Any]
) -> Checkpoint:
    """Write a checkpoint of `state["step"]`.

    Raises:
        JepalmError: not enough disk space, or the folder cannot be written. Nothing is left behind.
    """
    model = {name: tensor.detach().cpu().contiguous() for name, tensor in objective.state_dict().items()}
    moments = {
        name: tensor.detach().cpu().contiguous() for name, tensor in named_state(optimizer, objective).items()
    }
    size = sum(t.numel() * t.element_size() for t in (*model.values(), *moments.values()))
    with writing(run, state, size) as folder:
        save_file(model, folder / MODEL)
        save_file(moments, folder / OPTIMIZER)
    return Checkpoint.of(run, state["step"])


@contextlib.contextmanager
def writing(run: RunFolder, state: dict[str, Any], size: int) -> Iterator[Path]:
    """A folder for the tensors of a checkpoint of `state["step"]`, which is whole afterwards or not there.

    Args:
        run: whose checkpoint.
        state: what is saved beside the tensors.
        size: bytes that the tensors will take.

    Raises:
        JepalmError: not enough disk space, or the folder cannot be written. Nothing is left behind.
    """
    target = Checkpoint.of(run, state["step"]).path
    temporary = target.parent / f".{target.name}-{os.getpid()}.tmp"
    aside = target.parent / f".{target.name}-old-{os.getpid()}.tmp"
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(temporary).free
        if free < size * 1.05:
            raise OSError(errno.ENOSPC, f"{size / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free")
        yield temporary
        (temporary / STATE).write_text(json.dumps(state), encoding="utf-8")
        found = sorted(temporary.rglob("*"))
        files = {str(path.relative_to(temporary)): _fingerprint(path) for path in found if path.is_file()}
        (temporary / FILES).write_text(json.dumps(files, indent=1), encoding="utf-8")
        for name in (*files, FILES):
            flush_folder(temporary / name)
        for folder in (*(path for path in found if path.is_dir()), temporary):
            flush_folder(folder)
        if target.exists():
            target.rename(aside)
        temporary.rename(target)
        flush_folder(run.checkpoints)
    except (OSError, SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise JepalmError(
            f"cannot save {target}: {reason}", "free disk space, or lower training.keep"
        ) from None
    finally:
        if aside.exists() and not target.exists():
            with contextlib.suppress(OSError):
                aside.rename(target)
        for folder in (temporary, aside):
            shutil.rmtree(folder, ignore_errors=True)


def mark_best(checkpoint: Checkpoint) -> None:
    """Point `best` to a checkpoint.

    Raises:
        JepalmError: the link cannot be written.
    """
    try:
        replace_link(checkpoint.path.parent / BEST, checkpoint.path.name)
        flush_folder(checkpoint.path.parent)
    except OSError as error:
        raise JepalmError(f"cannot point {BEST} to {checkpoint.path}: {error.strerror}") from None


def settle(run: RunFolder, checkpoint: Checkpoint, state: TrainingState, keep: int) -> None:
    """Bring `best` and the kept checkpoints to what a checkpoint's state says.

    After a kill between two writes the run is as if it had not been killed. Newer folders than this
    checkpoint are broken ones: they are set aside as `NAME.corrupt`.

    Raises:
        JepalmError: the folder cannot be written.
    """
    sweep_temporary(run.checkpoints)
    for step, folder in run.step_folders():
        if step > checkpoint.step:
            set_aside(folder)
    best = Checkpoint.of(run, state.best_step)
    link = run.checkpoints / BEST
    if state.best_step < 0 or not best.path.is_dir():
        with contextlib.suppress(OSError):
            if not link.exists():
                link.unlink()  # points to what is gone
    elif link.resolve().name != best.path.name:
        mark_best(best)
    prune(run, keep)


def set_aside(folder: Path) -> None:
    """Rename a broken checkpoint to the first free of `NAME.corrupt`, `NAME-2.corrupt` and so on.

    Raises:
        JepalmError: it cannot be renamed.
    """
    names = (f"{folder.name}{suffix}.corrupt" for suffix in ("", *(f"-{k}" for k in range(2, 1000))))
    target = next(path for name in names if not (path := folder.parent / name).exists())
    try:
        folder.rename(target)
    except OSError as error:
        raise JepalmError(f"cannot set {folder} aside: {error.strerror}", "move it away") from None


def prune(run: RunFolder, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints and the best, and what a killed process left half-written.

    A folder is renamed first, so that nobody reads half of it. One that resists is left.
    """
    best = (run.checkpoints / BEST).resolve()
    for _, folder in run.step_folders()[keep:]:
        if folder.resolve() != best:
            going = folder.parent / f".{folder.name}-gone-{os.getpid()}.tmp"
            with contextlib.suppress(OSError):
                folder.rename(going)
            shutil.rmtree(going, ignore_errors=True)
    sweep_temporary(run.checkpoints)


def find_checkpoint(run: RunFolder, which: str = "last", *, moments: bool = True) -> Checkpoint:
    """Find a whole checkpoint: `last`, `best`, or a step's number or folder name.

    `last` goes back past damaged ones and names them in a `DamageWarning`. Where the optimizer's moments are
    not needed, their sizes are compared and not their bytes.

    Raises:
        UsageError: there is none, or the one named is missing.
        JepalmError: the one named is damaged.
    """
    folders = run.step_folders()
    if not folders:
        raise UsageError(f"{run.path} has no checkpoint yet", "let jepalm train reach its first one")
    if which == "last":
        damaged: list[str] = []
        for step, folder in folders:
            damage = problem(folder, moments=moments)
            if not damage:
                for said in damaged:
                    warnings.warn(f"{said}; {folder.name} is used", DamageWarning, stacklevel=2)
                return Checkpoint(folder, step)
            if folder.exists():  # else it was pruned at this moment
                damaged.append(f"checkpoint {folder} is damaged: {damage}")
        raise JepalmError(f"every checkpoint of {run.path} is damaged", "train again")
    name = (run.checkpoints / BEST).resolve().name if which == BEST else _folder_name(which)
    found = [Checkpoint(folder, step) for step, folder in folders if folder.name == name]
    if not found:
        best = f"{BEST}, " if (run.checkpoints / BEST).exists() else ""
        known = ", ".join(folder.name for _, folder in folders)
        raise UsageError(f"{run.path} has no checkpoint {which}", f"there are: last, {best}{known}")
    damage = problem(found[0].path, moments=moments)
    if damage:
        raise JepalmError(f"checkpoint {name} is damaged: {damage}", "use another with --checkpoint")
    return found[0]


def problem(folder: Path, *, moments: bool = True) -> str:
    """What is wrong with a checkpoint folder, in a few words; empty when it is whole.

    Args:
        folder: of the checkpoint.
        moments: whether the bytes of the optimizer's moments are read, twice as many as the weights'.
    """
    try:
        files = read_json(folder / FILES)
        of_moments = [name for name in files if name.startswith(f"{SHARDS}/")] or [OPTIMIZER]
        for name in (MODEL, *of_moments, STATE):
            path, saved = folder / name, files[name]
            read = moments or name not in of_moments
            if (_fingerprint(path) if read else saved | {"bytes": path.stat().st_size}) != saved:
                return f"{name} does not match its fingerprint"
        if read_json(folder / STATE)["step"] != step_of(folder.name):
            return f"{STATE} is of another step"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
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
        raise misfit(checkpoint, "model") from None


def load_optimizer(checkpoint: Checkpoint, objective: nn.Module, optimizer: Optimizer) -> None:
    """Load the optimizer's moments.

    Raises:
        JepalmError: they belong to another config.
    """
    try:
        folder = moments_folder(checkpoint)
        if folder != checkpoint.path:
            from jepalm.training.shards import read_whole  # whose library takes long to load

            load_named_state(optimizer, objective, read_whole(folder))
        else:
            load_named_state(optimizer, objective, load_file(folder / OPTIMIZER))
    except (KeyError, RuntimeError, ValueError, SafetensorError):
        raise misfit(checkpoint, "optimizer") from None


def moments_folder(checkpoint: Checkpoint) -> Path:
    """Where the optimizer's tensors lie: in one file beside the weights, or in shards in a folder."""
    folder = checkpoint.path / SHARDS
    return folder if folder.is_dir() else checkpoint.path


def misfit(checkpoint: Checkpoint, what: str) -> JepalmError:
    """The error of a checkpoint whose tensors are of another config."""
    hint = "the run's config.yaml was changed after training"
    return JepalmError(f"{checkpoint.path} does not fit the {what} of its config", hint)


def checkpoint_bytes(objective: nn.Module) -> int:
    """Size of a checkpoint: the weights and two moments of each."""
    return 3 * sum(p.numel() * p.element_size() for p in objective.parameters())


def _folder_name(which: str) -> str:
    return checkpoint_name(int(which)) if which.isdecimal() and len(which) < 20 else Path(which).name


def _fingerprint(path: Path) -> dict[str, Any]:
    with open(path, "rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}
