"""Files, folders and links that are written whole or not at all, and what killed processes left of them."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from jepalm.errors import JepalmError, UsageError

_TEMPORARY = re.compile(r"\..+-(\d+)\.tmp")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file's content: temporary sibling, flushed to disk, renamed.

    A text is written as UTF-8, halves of surrogate pairs as `?`.

    Raises:
        OSError: it could not be written, flushed or renamed; the old content stands, or the new.
    """
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    descriptor, temporary_name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}-", suffix=f"-{os.getpid()}.tmp"
    )
    temporary = Path(temporary_name)
    try:
        with open(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def write_json(path: Path, tree: dict[str, Any]) -> None:
    """Write a tree as JSON, whole or not at all; its folder is made.

    Raises:
        JepalmError: it cannot be written.
    """
    try:
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, json.dumps(tree, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise JepalmError(f"cannot write {path}: {error.strerror}", "make the folder writable") from None


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Make a folder whole or not at all: what is written into the one given takes its name at the end.

    Raises:
        UsageError: there is something of that name.
        JepalmError: it cannot be written. Nothing is left.
    """
    check_free(folder)
    temporary = folder.parent / f".{folder.name}-{os.getpid()}.tmp"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep_temporary(folder.parent, f"{folder.name}-")
        temporary.mkdir()
        yield temporary
        for path in temporary.iterdir():
            if path.is_file():
                path.chmod(0o644)  # a library may keep weights to their owner
            flush_folder(path)
        flush_folder(temporary)
        temporary.replace(folder)
        flush_folder(folder.parent)
    except (OSError, SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise JepalmError(f"cannot write {folder}: {reason}", "name another folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(folder: Path) -> None:
    """Check that a folder may be made: there is nothing of its name, or an empty folder.

    Raises:
        UsageError: there is something.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise UsageError(f"{folder} is there already", "name another folder")


def replace_link(link: Path, to: str) -> None:
    """Make a relative link, in place of an older one, atomically.

    Raises:
        OSError: it cannot be written; the older one stands.
    """
    temporary = link.parent / f".{link.name}-{os.getpid()}.tmp"
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(to)
        temporary.replace(link)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def flush_folder(path: Path) -> None:
    """Flush a folder's entries, or a file, to disk: a rename lasts after this.

    Raises:
        OSError: the disk failed.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_temporary(folder: Path, beginning: str = "") -> None:
    """Remove what killed processes left half-written in a folder: `.NAME-PID.tmp`, and older forms.

    What belongs to a process that lives stays, and so does what resists. Whether one lives is known of this
    machine alone: of processes that train together, on several machines, the first alone sweeps, when no
    other one writes in the folder.

    Args:
        folder: where to look.
        beginning: of NAME, in a folder that others write into, too.
    """
    for path in folder.glob(f".{glob.escape(beginning)}*"):
        match = _TEMPORARY.fullmatch(path.name)
        if match is None or process_lives(int(match[1])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def process_lives(pid: int) -> bool:
    """Whether another process of this number is alive on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid != os.getpid()
