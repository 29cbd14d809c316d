"""Writing a folder of prepared data: bounded shards, all or nothing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from jepalm.atomic import flush_folder, process_lives
from jepalm.data.prepared import META, TOKENIZER, Role, SplitCounts, SplitName, shard_name
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import JepalmError, UsageError

SHARD_TOKENS = 1 << 24
SHARD_PAIRS = 1 << 20
_SMALL_VOCABULARY = 1 << 16
_PIECE = 1 << 20


class StreamState(NamedTuple):
    """What a writer of a stream has counted."""

    shards: int
    tokens: int
    unknown: int
    documents: int


class SplitWriter:
    """Collects one split's tokens and spans, and writes a shard whenever one is full."""

    def __init__(self, folder: FolderWriter, name: SplitName, tokenizer: TextTokenizer) -> None:
        self._folder = folder
        self._name = name
        self._dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= _SMALL_VOCABULARY else np.uint32)
        self._tokens: list[NDArray[Any]] = []
        self._spans: dict[Role, list[NDArray[np.int64]]] = {}
        self._n_tokens = 0
        self._n_pairs = 0
        self._last_line: NDArray[np.int32] | None = None
        self.pairs = 0
        self.tokens = 0
        self.shards = 0
        self.unknown = 0
        self.documents = 0
        self.longest: dict[Role, int] = {"source": 0, "target": 0, "action": 0}
        self.target_sum = 0
        self.target_squares = 0

    def stream(self, ids: NDArray[np.int32]) -> None:
        """Append tokens without pairs."""
        while len(ids):
            room = SHARD_TOKENS - self._n_tokens
            self._append(ids[:room])
            ids = ids[room:]
            self._write_full()

    def lines(self, ids: NDArray[np.int32], lengths: NDArray[np.int64]) -> None:
        """Append lines that follow the ones before: each is paired with its predecessor."""
        ends = np.cumsum(lengths)
        first = 0
        while first < len(lengths):
            if self._n_tokens == 0 and self._last_line is not None:
                self._append(self._last_line, repeated=True)  # a pair does not cross a shard's edge
            before = int(ends[first - 1]) if first else 0
            # At least one line, then as many as fit into the shard.
            fits = int(np.searchsorted(ends, before + SHARD_TOKENS - self._n_tokens, side="right"))
            last = min(max(fits, first + 1), first + SHARD_PAIRS - self._n_pairs, len(lengths))
            offset = self._n_tokens - before
            stops = ends[first:last] + offset
            starts = stops - lengths[first:last]
            targets = np.stack([starts, stops], axis=1)  # (lines, 2)
            sources = np.roll(targets, 1, axis=0)
            if self._last_line is not None:
                sources[0] = self._n_tokens - len(self._last_line), self._n_tokens
            else:
                sources, targets = sources[1:], targets[1:]
            self._append(ids[before : int(ends[last - 1])])
            self._add_spans({"source": sources, "target": targets})
            self._last_line = ids[int(ends[last - 1] - lengths[last - 1]) : int(ends[last - 1])].copy()
            first = last
            self._write_full()

    def rows(self, ids: NDArray[np.int32], spans: dict[Role, NDArray[np.int64]]) -> None:
        """Append given pairs; spans count from the first of `ids`."""
        self._add_spans({role: found + self._n_tokens for role, found in spans.items()})
        self._append(ids)
        self._write_full()

    def close(self) -> SplitCounts:
        """Write what is left and return the counts."""
        if self._n_tokens:
            self._write()
        return SplitCounts(pairs=self.pairs, tokens=self.tokens, shards=self.shards, documents=self.documents)

    def state(self) -> tuple[StreamState, NDArray[Any]]:
        """Counts of a stream, and its tokens that no shard holds yet, (T,)."""
        pending = np.concatenate([np.zeros(0, self._dtype), *self._tokens])
        return StreamState(self.shards, self.tokens, self.unknown, self.documents), pending

    def go_on(self, state: StreamState, pending: NDArray[Any]) -> None:
        """Take over a stream where another writer left it."""
        self.shards, self.tokens, self.unknown, self.documents = state
        self._tokens, self._n_tokens = [pending], len(pending)

    def _append(self, ids: NDArray[np.int32], repeated: bool = False) -> None:
        self._tokens.append(ids.astype(self._dtype))
        self._n_tokens += len(ids)
        if not repeated:
            self.tokens += len(ids)
            self.unknown += int(np.count_nonzero(ids == TextTokenizer.UNK))

    def _add_spans(self, spans: dict[Role, NDArray[np.int64]]) -> None:
        for role, found in spans.items():
            if len(found):
                lengths = found[:, 1] - found[:, 0]
                self.longest[role] = max(self.longest[role], int(lengths.max()))
                if role == "target":
                    self.target_sum += int(lengths.sum())
                    self.target_squares += int((lengths**2).sum())
                    self.pairs += len(found)
                    self._n_pairs += len(found)
            self._spans.setdefault(role, []).append(found)

    def _write_full(self) -> None:
        if self._n_tokens >= SHARD_TOKENS or self._n_pairs >= SHARD_PAIRS:
            self._write()

    def _write(self) -> None:
        tensors = {"tokens": np.concatenate(self._tokens)}
        tensors.update({role: np.concatenate(found) for role, found in self._spans.items()})
        self._tokens, self._spans, self._n_tokens, self._n_pairs = [], {}, 0, 0
        self._folder.write(shard_name(self._name, self.shards), save(tensors))
        self.shards += 1


class FolderWriter:
    """The folder as it is being made, under a temporary name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[str, int] = {}
        self._digest = hashlib.sha256()

    @property
    def content_sha256(self) -> str:
        """Hash over names and bytes of all files written so far."""
        return self._digest.hexdigest()

    def write_tokenizer(self, tokenizer: TextTokenizer) -> None:
        """Write `tokenizer.json`."""
        self.write(TOKENIZER, tokenizer.to_json().encode())

    def write(self, name: str, content: bytes) -> None:
        """Write one file and flush it to disk."""
        self._digest.update(f"{name}\0{len(content)}\0".encode())
        self._digest.update(content)
        self.files[name] = len(content)
        write_flushed(self.path / name, content)

    def take_over(self, files: dict[str, int]) -> None:
        """Count files in that an earlier process wrote, in their order.

        Raises:
            OSError: one cannot be read.
        """
        for name in files:
            with open(self.path / name, "rb") as file:
                length = os.fstat(file.fileno()).st_size
                self._digest.update(f"{name}\0{length}\0".encode())
                while piece := file.read(_PIECE):
                    self._digest.update(piece)
            self.files[name] = length

    def write_meta(self, text: str) -> None:
        """Write `meta.json`, last."""
        write_flushed(self.path / META, text.encode())


@contextmanager
def at_work(root: Path, name: str) -> Iterator[None]:
    """Hold the making of `root/NAME` for one process, from its first reading to the rename, by `.NAME.lock`.

    However the process ends, the name is free.

    Raises:
        JepalmError: another process is making it.
        UsageError: the data folder cannot be written.
    """
    lock = root / f".{name}.lock"
    try:
        new = not root.exists()
        root.mkdir(parents=True, exist_ok=True)
        handle = _locked(lock)
    except OSError as error:
        raise for_people(error, root) from None
    if handle is None:
        raise JepalmError(f"another prepare is at work on {root / name}", "wait for it, or --name keeps both")
    try:
        yield
    except UsageError:
        with contextlib.suppress(OSError):
            lock.unlink(missing_ok=True)
            if new and not any(root.iterdir()):
                root.rmdir()  # what was given made nothing
        raise
    finally:
        with contextlib.suppress(OSError):  # the next one takes a lock that stays
            lock.unlink(missing_ok=True)
        os.close(handle)


def _locked(path: Path) -> int | None:
    """A handle that holds a lock file, which may be gone by the time it is locked; None: it is held."""
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and path.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        os.close(handle)


@contextmanager
def new_folder(root: Path, name: str, needed_bytes: int) -> Iterator[FolderWriter]:
    """Make `root/NAME` whole or not at all, in place of an older one.

    The work is done in `.NAME-PID.tmp` beside it, which is flushed and renamed at the end and
    removed on any error; one that a killed process left is removed by the next. `at_work` keeps other
    processes away meanwhile.

    Args:
        root: the data folder; made when missing.
        name: of the folder.
        needed_bytes: room wanted on the disk before anything is written.

    Raises:
        UsageError: the folder cannot be written.
        JepalmError: too little room on the disk.
    """
    temporary = root / f".{name}-{os.getpid()}.tmp"
    try:
        make_room(root, needed_bytes)
        replaces = (root / name).exists()
        temporary.mkdir()
        yield FolderWriter(temporary)
        put_in_place(temporary, root / name, replaces=replaces)
    except OSError as error:
        raise for_people(error, root) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_room(root: Path, needed_bytes: int) -> None:
    """Make the data folder, clean up after killed processes, and check that there is room.

    Raises:
        OSError: the folder cannot be written.
        JepalmError: too little room on the disk.
    """
    root.mkdir(parents=True, exist_ok=True)
    _remove_stale(root)
    free = shutil.disk_usage(root).free
    if free < needed_bytes:
        raise JepalmError(
            f"too little room under {root}: about {size(needed_bytes)} needed, {size(free)} free",
            "make room, or give another folder with --data-dir",
        )


def put_in_place(made: Path, target: Path, *, replaces: bool = True) -> None:
    """Flush a finished folder to disk and rename it, in place of an older one.

    Args:
        made: the finished folder.
        target: its name.
        replaces: something of that name was there when the work began; else what is there now is refused.

    Raises:
        OSError: it cannot be written, or another process took the name meanwhile (ENOTEMPTY).
    """
    replaced = target.parent / f".{target.name}-{os.getpid()}.old.tmp"
    try:
        flush_folder(made)
        if replaces and target.exists():
            target.rename(replaced)
        made.rename(target)
        flush_folder(target.parent)
    finally:
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        shutil.rmtree(replaced, ignore_errors=True)


def size(n_bytes: float) -> str:
    """A number of bytes for people, three digits."""
    power = min(4, max(0, math.floor(math.log10(max(n_bytes, 1)) / 3)))
    return f"{n_bytes / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def write_flushed(path: Path, content: bytes) -> None:
    """Write a file and flush it to disk."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _remove_stale(root: Path) -> None:
    for folder in root.glob(".*.tmp"):
        match = re.fullmatch(r"\.(.+)-(\d+)(\.old)?\.tmp", folder.name)
        if not match or process_lives(int(match[2])):
            continue
        if match[3] and not (root / match[1]).exists():
            folder.rename(root / match[1])  # killed between taking the old one away and putting the new one
        else:
            shutil.rmtree(folder, ignore_errors=True)


def for_people(error: OSError, root: Path) -> JepalmError:
    """What the disk refused, in one line."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return JepalmError(f"no room left under {root}", "make room, or give another folder with --data-dir")
    if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) and not root.is_dir():
        return UsageError(f"{root} is not a folder", "--data-dir gives another")
    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
        return JepalmError(f"another prepare is at work under {root}", "wait for it")
    return UsageError(f"cannot write under {root}: {error.strerror}", "--data-dir gives another folder")
