"""The runs of a folder: what each is and how far it came, and those that nobody will miss."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jepalm.config import read_config
from jepalm.errors import JepalmError
from jepalm.run import CONFIG, MANIFEST, METRICS, RunFolder, is_held, locked

_DATED = re.compile(r"\d{4}-\d\d-\d\d_\d{4}-.+")
_WORKING = ("created", "running")


@dataclass(frozen=True)
class RunEntry:
    """One run of a list.

    Attributes:
        name: of its folder.
        path: of its folder.
        preset: that it started from; empty where that cannot be read.
        status: of its manifest; `killed` where that says it runs and no process holds it, `broken` where
            there is no manifest to read.
        step: steps done; None where that cannot be read.
        steps: of the whole training.
        best: the lowest held-out loss.
        seconds_old: since it was begun.
        n_bytes: of all its files.
        latest: whether `latest` points to it.
        checkpoints: how many it has.
        held: whether a process trains it at this moment.
        problem: what cannot be read.
        teaches: the run that needs it as its teacher.
    """

    name: str
    path: Path
    preset: str
    status: str
    step: int | None
    steps: int | None
    best: float | None
    seconds_old: float
    n_bytes: int
    latest: bool
    checkpoints: int
    held: bool
    problem: str = ""
    teaches: str = ""

    @property
    def needless(self) -> str:
        """Why it may go, in a few words; empty where it may not.

        The latest run, one that is trained at this moment, another run's teacher and what is finished stay,
        and so does a broken one that has checkpoints.
        """
        if self.latest or self.held or self.teaches or self.status == "finished":
            return ""
        if not self.checkpoints:
            return f"{self.status}, without a checkpoint"
        return "failed" if self.status == "failed" else ""


def list_runs(root: Path) -> list[RunEntry]:
    """The runs in a folder, the newest first; broken ones are named and no error.

    Raises:
        JepalmError: the folder cannot be read.
    """
    try:
        paths = [path for path in root.iterdir() if path.is_dir() and not path.is_symlink()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise JepalmError(f"cannot read {root}: {error.strerror}", "--run-dir names another folder") from None
    runs = [RunFolder(path) for path in sorted(paths, reverse=True) if _is_run(path)]
    teachers = _teachers(runs)
    latest = (root / "latest").resolve()
    now = datetime.datetime.now(datetime.UTC).timestamp()
    return [_entry(run, latest, now, teachers.get(run.path.resolve(), "")) for run in runs]


def remove_run(entry: RunEntry) -> None:
    """Delete a run, whole: it goes out of sight first, then file by file.

    Raises:
        JepalmError: a process trains it now, or it cannot be deleted.
    """
    going = entry.path.parent / f".{entry.name}-{os.getpid()}.tmp"
    try:
        with locked(RunFolder(entry.path)):
            entry.path.rename(going)
            shutil.rmtree(going)
    except OSError as error:
        raise JepalmError(f"cannot delete {entry.path}: {error.strerror}", "check its permissions") from None


def _is_run(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    files = (MANIFEST, CONFIG, METRICS, "checkpoints")
    return _DATED.fullmatch(path.name) is not None or any((path / file).exists() for file in files)


def _entry(run: RunFolder, latest: Path, now: float, teaches: str) -> RunEntry:
    manifest: dict[str, Any] = {}
    problem = ""
    try:
        manifest = run.read_manifest()
        if not run.config.is_file():
            problem = f"it has no {CONFIG}"
    except JepalmError as error:
        problem = error.message if run.manifest.exists() else f"it has no {MANIFEST}"
    held = is_held(run)
    status = str(manifest.get("status") or "unknown") if manifest else "broken"
    if status in _WORKING and not held:
        status = "killed"
    best = manifest.get("best")
    return RunEntry(
        name=run.name,
        path=run.path,
        preset=str(manifest.get("preset") or ""),
        status=status,
        step=_whole(manifest.get("step")),
        steps=_whole(manifest.get("steps")),
        best=_number(best.get("value")) if isinstance(best, dict) else None,
        seconds_old=max(0.0, now - _begun(run, manifest)),
        n_bytes=_n_bytes(run.path),
        latest=latest == run.path.resolve(),
        checkpoints=_n_checkpoints(run),
        held=held,
        problem=problem,
        teaches=teaches,
    )


def _begun(run: RunFolder, manifest: dict[str, Any]) -> float:
    """When a run was begun, in seconds since 1970: as its manifest says, else as old as its folder is."""
    with contextlib.suppress(TypeError, ValueError):
        return datetime.datetime.fromisoformat(manifest.get("created", "")).timestamp()
    return run.path.stat().st_mtime


def _teachers(runs: Sequence[RunFolder]) -> dict[Path, str]:
    """The runs that others name as their teacher, with the name of one of those."""
    found: dict[Path, str] = {}
    for run in runs:
        with contextlib.suppress(JepalmError):
            name = read_config(run.config).objective.coupling.teacher
            if name is not None:
                for path in (Path(name), run.path.parent / Path(name).name):
                    found.setdefault(path.resolve(), run.name)
    return found


def _n_checkpoints(run: RunFolder) -> int:
    with contextlib.suppress(OSError):
        return len(run.step_folders())
    return 0


def _n_bytes(folder: Path) -> int:
    """Bytes of all files in a folder; of one that goes meanwhile, none."""
    total = 0
    for path, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(path, file)).st_size
    return total


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
