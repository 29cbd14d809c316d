"""A folder of prepared data that a stopped command leaves for the next: finished shards, and where to go on.

    data/.NAME.partial/progress.json              place, counts, hash; replaced atomically
                       pending-BYTES.safetensors  tokens read before that place, in no shard yet
                       tokenizer.json, SPLIT-00000.safetensors, ...

The place is what `IterableDataset.state_dict` of the `datasets` library gives. `meta.json` is written last
and the folder renamed, so that nothing half-made looks finished.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from jepalm.atomic import write_atomically
from jepalm.data.job import Job
from jepalm.data.prepared import TOKENIZER, Meta, Origin, Request, SplitName
from jepalm.data.text.reading import TextCounts
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
from jepalm.errors import Interrupted, JepalmError, Stopped, UsageError

PIECE_BYTES = 1 << 26
"""Bytes of text from one record of progress to the next."""
PROGRESS = "progress.json"


@dataclass(frozen=True)
class Place:
    """Where to read on in a dataset."""

    split: SplitName
    state: dict[str, Any] | None = None
    """As the library's stream of that split says it; None at its beginning."""
    rows: list[str] = field(default_factory=list)
    """Rows read before, of the document that is not at its end yet."""


class Progress(BaseModel):
    """`progress.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    request: Request
    origin: Origin
    identity: str
    """Of the dataset's files."""
    place: Place | None
    """None at the end."""
    counts: TextCounts
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
    def tokenizer(self) -> TextTokenizer | None:
        """The tokenizer that an earlier command learned."""
        return TextTokenizer.load(self.writer.path / TOKENIZER) if self.progress else None

    def take_up(self, writers: Mapping[SplitName, SplitWriter]) -> tuple[Place | None, TextCounts]:
        """Where to read on and what is counted so far; the writers take over what was written."""
        if self.progress is None:
            return Place("train"), TextCounts()
        for name, writer in writers.items():
            writer.go_on(self.progress.splits[name], self.pending[name])
        return self.progress.place, replace(self.progress.counts)

    def record(
        self, place: Place | None, counts: TextCounts, writers: Mapping[SplitName, SplitWriter]
    ) -> None:
        """Write down how far the work is; after a kill it goes on from here."""
        path = self.writer.path
        states = {name: writer.state() for name, writer in writers.items()}
        pending = f"pending-{counts.raw_bytes}.safetensors"
        write_flushed(path / pending, save({name: tokens for name, (_, tokens) in states.items()}))
        before = self.progress
        self.progress = Progress(
            request=self.job.request,
            origin=self.job.origin,
            identity=self.identity,
            place=place,
            counts=replace(counts),
            splits={name: state for name, (state, _) in states.items()},
            pending=pending,
            files=dict(self.writer.files),
            content_sha256=self.writer.content_sha256,
        )
        write_atomically(path / PROGRESS, self.progress.model_dump_json() + "\n")
        if before is not None:
            (path / before.pending).unlink(missing_ok=True)

    def finish(self, meta: Meta) -> None:
        """Write `meta.json` and give the folder its name."""
        self.writer.write_meta(meta.model_dump_json(indent=2) + "\n")
        target = self.job.path
        put_in_place(self.writer.path, target)
        for left in (target / PROGRESS, *target.glob("pending-*.safetensors")):
            left.unlink(missing_ok=True)


@contextmanager
def partial_folder(job: Job, identity: str, needed_bytes: int) -> Iterator[PartialFolder]:
    """Make `root/NAME` over one command or several, in place of an older one.

    However it stopped, the work goes on from the last record. Before the first, nothing is left. `Job.alone`
    keeps other processes away meanwhile.

    Raises:
        UsageError: the folder cannot be written, or holds the work of another command.
        JepalmError: too little room.
    """
    path = job.root / f".{job.name}.partial"
    folder: PartialFolder | None = None
    try:
        present = sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else 0
        make_room(job.root, max(0, needed_bytes - present))
        path.mkdir(exist_ok=True)
        folder = _take_over(job, identity, path)
        yield folder
    except (OSError, JepalmError) as error:
        fault = for_people(error, job.root) if isinstance(error, OSError) else error
        raise type(fault)(fault.message, _hint(folder, fault.hint)) from None
    except (KeyboardInterrupt, Stopped) as stopped:
        hint = _hint(folder, "")
        if not hint:
            raise
        number = stopped.exit_code - 128 if isinstance(stopped, Stopped) else signal.SIGINT
        raise Interrupted("stopped", hint, number) from None


def _take_over(job: Job, identity: str, path: Path) -> PartialFolder:
    """What an earlier command left, or an empty folder where it is of no use."""
    writer = FolderWriter(path)
    try:
        progress = Progress.model_validate_json((path / PROGRESS).read_text(encoding="utf-8"))
        pending = load_file(path / progress.pending)
        writer.take_over(progress.files)
        whole = writer.content_sha256 == progress.content_sha256
    except (OSError, ValueError, SafetensorError):
        whole = False
    if whole and _same(job, identity, progress, path):
        return PartialFolder(job, identity, writer, progress, pending)
    for left in path.iterdir():
        left.unlink()
    return PartialFolder(job, identity, FolderWriter(path))


def _same(job: Job, identity: str, progress: Progress, path: Path) -> bool:
    """Whether the work is this job's; with `--force` another's may be thrown away.

    Raises:
        UsageError: it is another's.
    """
    if (progress.request, progress.origin.where) != (job.request, job.origin.where):
        message = f"{path} holds a stopped prepare with other settings"
        hint = "--force starts anew, --name keeps both"
    elif progress.identity != identity:
        message = f"the dataset has changed since the prepare that stopped in {path}"
        revision = progress.origin.revision
        hint = f"{f'--revision {revision} goes on, ' if revision else ''}--force starts anew"
    else:
        return True
    if job.force:
        return False
    raise UsageError(message, hint)


def _hint(folder: PartialFolder | None, hint: str) -> str:
    """A fault's hint with where the next command goes on; removes a folder that is of no use to it."""
    if folder is None:
        return hint
    if folder.progress is None:
        shutil.rmtree(folder.writer.path, ignore_errors=True)
        return hint
    reached = f"the same command goes on after {size(folder.progress.counts.raw_bytes)}"
    return f"{hint}; {reached}" if hint else reached
