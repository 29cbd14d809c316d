"""A folder of prepared data that a stopped command leaves for the next: finished shards, and where to go on.

    data/.NAME.partial/progress.json              position, counts, hash; replaced atomically
                       pending-BYTES.safetensors  tokens read before that position, in no shard yet
                       tokenizer.json, SPLIT-00000.safetensors, ...

`meta.json` is written last and the folder renamed, so that nothing half-made looks finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from jepalm.data.hub import Position
from jepalm.data.job import Job
from jepalm.data.prepared import TOKENIZER, Origin, Request, SplitName
from jepalm.data.reading import TextCounts
from jepalm.data.tokenizer import TextTokenizer
from jepalm.data.writing import (
    FolderWriter,
    SplitWriter,
    StreamState,
    for_people,
    make_room,
    put_in_place,
    size,
    write_flushed,
)
from jepalm.errors import Interrupted, JepalmError, UsageError
from jepalm.run import write_atomically

PIECE_BYTES = 1 << 26
"""Bytes of text from one record of progress to the next."""
PROGRESS = "progress.json"
_LOCK = "lock"


class TextDigest:
    """SHA-256 of a text up to the first piece; then of the hash so far, followed by the next piece.

    A plain SHA-256 cannot be written down half-way. Pieces end where progress is recorded.
    """

    def __init__(self, before: str = "") -> None:
        self._hash = hashlib.sha256(bytes.fromhex(before))

    def add(self, content: bytes) -> None:
        """Go on with the text."""
        self._hash.update(content)

    def end_piece(self) -> str:
        """The hash so far, with which the next piece begins."""
        before = self.hexdigest()
        self._hash = hashlib.sha256(bytes.fromhex(before))
        return before

    def hexdigest(self) -> str:
        """The hash so far."""
        return self._hash.hexdigest()


class Progress(BaseModel):
    """`progress.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    request: Request
    origin: Origin
    identity: str
    """Of the dataset's files."""
    place: Position | None
    """Where to read on; None at the end."""
    raw_bytes: int
    digest: str
    characters: int
    lines: int
    frequency: dict[str, int]
    splits: dict[SplitName, StreamState]
    pending: str
    files: dict[str, int]
    content_sha256: str


@dataclass
class PartialFolder:
    """The folder as it is being made, by one command or several."""

    job: Job
    identity: str
    writer: FolderWriter
    progress: Progress | None = None
    pending: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def _path(self) -> Path:
        return self.writer.path

    @property
    def tokenizer(self) -> TextTokenizer | None:
        """The tokenizer that an earlier command learned."""
        return TextTokenizer.load(self._path / TOKENIZER) if self.progress else None

    @property
    def place(self) -> Position | None:
        """Where to read on."""
        return self.progress.place if self.progress else Position("train")

    @property
    def n_bytes(self) -> int:
        """Bytes of text that need not be read again."""
        return self.progress.raw_bytes if self.progress else 0

    def go_on(self, counts: TextCounts, writers: dict[SplitName, SplitWriter]) -> None:
        """Take over what an earlier command counted and wrote."""
        progress = self.progress
        if progress is None:
            return
        counts.raw_bytes, counts.characters = progress.raw_bytes, progress.characters
        counts.lines, counts.frequency = progress.lines, dict(progress.frequency)
        for name, writer in writers.items():
            writer.go_on(progress.splits[name], self.pending[name])

    def record(
        self, place: Position | None, digest: str, counts: TextCounts, writers: dict[SplitName, SplitWriter]
    ) -> None:
        """Write down how far the work is; after a kill it goes on from here."""
        states = {name: writer.state() for name, writer in writers.items()}
        pending = f"pending-{counts.raw_bytes}.safetensors"
        write_flushed(self._path / pending, save({name: tokens for name, (_, tokens) in states.items()}))
        progress = Progress(
            request=self.job.request,
            origin=self.job.origin,
            identity=self.identity,
            place=place,
            raw_bytes=counts.raw_bytes,
            digest=digest,
            characters=counts.characters,
            lines=counts.lines,
            frequency=counts.frequency,
            splits={name: state for name, (state, _) in states.items()},
            pending=pending,
            files=dict(self.writer.files),
            content_sha256=self.writer.content_sha256,
        )
        write_atomically(self._path / PROGRESS, progress.model_dump_json() + "\n")
        before, self.progress = self.progress, progress
        if before is not None and before.pending != pending:
            (self._path / before.pending).unlink(missing_ok=True)

    def finish(self, meta: str) -> None:
        """Write `meta.json` and give the folder its name."""
        target = self.job.root / self.job.name
        self.writer.write_meta(meta)
        put_in_place(self._path, target)
        for name in (PROGRESS, _LOCK, *(path.name for path in target.glob("pending-*.safetensors"))):
            (target / name).unlink(missing_ok=True)


@contextmanager
def partial_folder(job: Job, identity: str, needed_bytes: int) -> Iterator[PartialFolder]:
    """Make `root/NAME` over one command or several, in place of an older one.

    However it stopped, the work goes on from the last record. Before the first, nothing is left.

    Raises:
        UsageError: the folder cannot be written, or holds the work of another command.
        JepalmError: too little room, or another process is at work there.
    """
    path = job.root / f".{job.name}.partial"
    folder: PartialFolder | None = None
    try:
        make_room(job.root, max(0, needed_bytes - _bytes_in(path)))
        path.mkdir(exist_ok=True)
        with _locked(path):
            folder = _resumed(job, identity, path)
            yield folder
    except OSError as error:
        fault = for_people(error, job.root)
        raise type(fault)(fault.message, _left(folder, fault.hint)) from None
    except JepalmError as fault:
        raise type(fault)(fault.message, _left(folder, fault.hint)) from None
    except KeyboardInterrupt:
        hint = _left(folder, "")
        if not hint:
            raise
        raise Interrupted("stopped", hint) from None


def _resumed(job: Job, identity: str, path: Path) -> PartialFolder:
    """What an earlier command left, or an empty folder where it is of no use."""
    writer = FolderWriter(path)
    try:
        progress = Progress.model_validate_json((path / PROGRESS).read_text(encoding="utf-8"))
        pending = load_file(path / progress.pending)
        writer.take_over(progress.files)
        damaged = writer.content_sha256 != progress.content_sha256
    except (OSError, ValueError, SafetensorError):
        damaged = True
    if not damaged and _same(job, identity, progress, path):
        return PartialFolder(job, identity, writer, progress, pending)
    for left in path.iterdir():
        if left.name != _LOCK:
            left.unlink()
    return PartialFolder(job, identity, FolderWriter(path))


def _same(job: Job, identity: str, progress: Progress, path: Path) -> bool:
    """Whether the work is this job's; with `--force` another's may be thrown away.

    Raises:
        UsageError: it is another's.
    """
    if (progress.request, progress.origin.where) != (job.request, job.origin.where):
        if job.force:
            return False
        raise UsageError(
            f"{path} holds a stopped prepare with other settings", "--force starts anew, --name keeps both"
        )
    if progress.identity != identity:
        if job.force:
            return False
        revision = progress.origin.revision
        raise UsageError(
            f"the dataset has changed since the prepare that stopped in {path}",
            f"{f'--revision {revision} goes on, ' if revision else ''}--force starts anew",
        )
    return True


def _left(folder: PartialFolder | None, hint: str) -> str:
    """A fault's hint with where the next command goes on; removes a folder that is of no use to it."""
    if folder is None:
        return hint
    if folder.n_bytes == 0:
        shutil.rmtree(folder.writer.path, ignore_errors=True)
        return hint
    reached = f"the same command goes on after {size(folder.n_bytes)}"
    return f"{hint}; {reached}" if hint else reached


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path / _LOCK, "a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise JepalmError(f"another prepare is at work in {path}", "wait for it") from None
        yield


def _bytes_in(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else 0
