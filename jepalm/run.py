"""The run folder: name, manifest, `latest`, lock.

A run is one training, a folder under `runs/`. Everything in it but the weights is plain text.
"""

from __future__ import annotations

import datetime
import errno
import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jepalm.atomic import flush_folder, replace_link, sweep_temporary, write_atomically
from jepalm.errors import JepalmError, UsageError
from jepalm.reading import read_json
from jepalm.version import __version__

MANIFEST = "manifest.json"
METRICS = "metrics.jsonl"
SAMPLES = "samples.jsonl"
CONFIG = "config.yaml"
LOG = "log.txt"
LOCK = ".lock"
_CHECKPOINT = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run's folder."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name, also when it was reached through `latest`."""
        return self.path.resolve().name

    @property
    def config(self) -> Path:
        """The fully resolved config."""
        return self.path / CONFIG

    @property
    def manifest(self) -> Path:
        """Status, versions, seed, data hash, timings."""
        return self.path / MANIFEST

    @property
    def metrics(self) -> Path:
        """One row a log point."""
        return self.path / METRICS

    @property
    def samples(self) -> Path:
        """Generated text as training went on."""
        return self.path / SAMPLES

    @property
    def log(self) -> Path:
        """Plain progress lines."""
        return self.path / LOG

    @property
    def tensorboard(self) -> Path:
        """Event files."""
        return self.path / "tb"

    @property
    def checkpoints(self) -> Path:
        """One folder a checkpoint."""
        return self.path / "checkpoints"

    def step_folders(self) -> list[tuple[int, Path]]:
        """Step and folder of each checkpoint, whole or not, the newest first."""
        if not self.checkpoints.is_dir():
            return []
        found = ((step_of(folder.name), folder) for folder in self.checkpoints.iterdir())
        return sorted(((step, folder) for step, folder in found if step is not None), reverse=True)

    @property
    def report(self) -> Path:
        """The page, its plots and tables."""
        return self.path / "report"

    def read_manifest(self) -> dict[str, Any]:
        """Return the manifest.

        Raises:
            JepalmError: it is not readable JSON.
        """
        try:
            manifest = read_json(self.manifest)
        except (OSError, ValueError):
            raise JepalmError(f"{self.manifest} cannot be read", "the run's manifest is damaged") from None
        if not isinstance(manifest, dict):
            raise JepalmError(f"{self.manifest} is not a manifest", "the run's manifest is damaged")
        return manifest

    def update_manifest(self, **fields: Any) -> None:
        """Merge fields into the manifest and replace it atomically."""
        manifest = self.read_manifest() if self.manifest.exists() else {}
        manifest.update(fields)
        write_atomically(self.manifest, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def checkpoint_name(step: int) -> str:
    """What the folder of a step's checkpoint is called."""
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """The step of a checkpoint whose folder is called so; None of any other folder."""
    match = _CHECKPOINT.fullmatch(name)
    return int(match[1]) if match else None


def nearest_existing(folder: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def check_runs(root: Path, hint: str = "--run-dir moves it") -> None:
    """Check that a run could be made in a folder, which need not be there; nothing stays.

    Args:
        root: the folder.
        hint: what to do where it cannot be written.

    Raises:
        JepalmError: it cannot be written, or its `latest` is a folder.
    """
    folder = next(path for path in (root, *root.absolute().parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".run-", suffix=f"-{os.getpid()}.tmp"):
            pass
    except OSError as error:
        raise _cannot_write_runs(root, error, hint) from None
    latest = root / "latest"
    if latest.is_dir() and not latest.is_symlink():
        raise JepalmError(f"{latest} is a folder, not a link to a run", "move it away")


def create_run(
    root: Path,
    name: str,
    config_yaml: str,
    manifest: dict[str, Any],
    files: Mapping[str, str | bytes] | None = None,
) -> RunFolder:
    """Make `root/DATE_TIME-name[-k]` whole or not at all, and point `latest` to it.

    Args:
        root: the folder of runs; made when missing.
        name: what the run is called.
        config_yaml: text of `config.yaml`.
        manifest: what else its manifest says.
        files: content of further files by name.

    Raises:
        JepalmError: the folder cannot be written. Nothing is left, and `latest` is where it was.
    """
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H%M")
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:40] or "run"
    temporary = RunFolder(root / f".{stamp}-{safe}-{os.getpid()}.tmp")
    made: RunFolder | None = None
    try:
        root.mkdir(parents=True, exist_ok=True)
        sweep_temporary(root)
        temporary.path.mkdir()
        write_atomically(temporary.config, config_yaml)
        for file, content in (files or {}).items():
            write_atomically(temporary.path / file, content)
        temporary.update_manifest(status="created", name=name, **provenance(), **manifest)
        made = RunFolder(_take_name(temporary.path, root, f"{stamp}-{safe}"))
        point_latest(made)
    except BaseException as error:
        if made is not None:
            shutil.rmtree(made.path, ignore_errors=True)
        if isinstance(error, OSError):
            raise _cannot_write_runs(root, error, "--run-dir moves it") from None
        raise
    finally:
        shutil.rmtree(temporary.path, ignore_errors=True)
    return made


def _cannot_write_runs(root: Path, error: OSError, hint: str) -> JepalmError:
    return JepalmError(f"cannot write a run under {root}: {error.strerror or error}", hint)


def _take_name(made: Path, root: Path, name: str) -> Path:
    """Rename a folder to the first free name; another process may take one at the same moment."""
    for suffix in ("", *(f"-{k}" for k in range(2, 10_000))):
        target = root / f"{name}{suffix}"
        if target.exists():
            continue
        try:
            made.rename(target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            continue
        flush_folder(root)
        return target
    raise OSError(errno.EEXIST, f"too many runs are called {name}")


def point_latest(run: RunFolder) -> None:
    """Make `latest` beside the run a relative link to it, replaced atomically."""
    link = run.path.parent / "latest"
    try:
        replace_link(link, run.path.name)
    except OSError as error:
        raise JepalmError(f"cannot point {link} to {run.name}: {error.strerror}", "move it away") from None


def open_run(path: Path) -> RunFolder:
    """Return the run at a path.

    Raises:
        UsageError: the path is missing, empty, or something other than a run.
    """
    if not path.exists():
        if path.is_symlink():
            raise UsageError(f"{path} points to a run that is gone", "train again, or name another run")
        hint = "jepalm train makes one" if path.name == "latest" else "runs lie under runs/"
        raise UsageError(f"no run at {path}", hint)
    if not path.is_dir():
        raise UsageError(f"{path} is a file, not a run folder", "name a folder under runs/")
    if not (path / MANIFEST).exists() or not (path / CONFIG).exists():
        missing = MANIFEST if not (path / MANIFEST).exists() else CONFIG
        empty = not any(path.iterdir())
        what = "is empty" if empty else f"is not a run: it has no {missing}"
        raise UsageError(f"{path} {what}", "name a folder that jepalm train made, such as runs/latest")
    return RunFolder(path)


@contextmanager
def locked(run: RunFolder) -> Iterator[int]:
    """Hold the run for one trainer; released when the process ends, however it ends.

    Gives the descriptor of the lock: a process that inherits it holds the run too.

    Raises:
        JepalmError: another process holds it.
    """
    try:
        handle = open(run.path / LOCK, "a+", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        message = f"cannot lock {run.path}: {error.strerror}"
        raise JepalmError(message, "make the folder writable") from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise JepalmError(f"{run.path} is being trained by another process", "wait for it") from None
        yield handle.fileno()


def is_held(run: RunFolder) -> bool:
    """Whether a process trains the run at this moment; writes nothing."""
    try:
        with open(run.path / LOCK, "rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def data_of(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a manifest says of the data; nothing where it says none."""
    data = manifest.get("data")
    return data if isinstance(data, dict) else {}


def provenance() -> dict[str, Any]:
    """Versions, argv, host and git commit of this process."""
    return {
        "jepalm": __version__,
        "python": platform.python_version(),
        "argv": sys.argv[1:],
        "host": platform.node(),
        "git_commit": _git_commit(),
        "created": now(),
    }


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _git_commit() -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None
