"""What is to be prepared, whether it may be, and the folder that is made of it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from jepalm.data.prepared import META, Meta, Origin, PreparedData, Request, SplitName, open_prepared
from jepalm.data.text.reading import TextCounts
from jepalm.data.tokenizer import TextTokenizer, parse_tokenizer
from jepalm.data.writing import FolderWriter, SplitWriter, at_work, new_folder
from jepalm.errors import UsageError

_SHOWN_UNKNOWN = 20

Watch = Callable[[str, int, int], None]
"""Called with the stage, what is done and what is to be done: bytes, or pairs."""


@dataclass(frozen=True)
class Job:
    """What to make, of what, and where."""

    root: Path
    name: str
    corpus: str
    origin: Origin
    licence: str
    request: Request
    force: bool = False
    watch: Watch = lambda stage, done, total: None
    started: float = field(default_factory=time.perf_counter)

    @property
    def path(self) -> Path:
        """The folder to make."""
        return self.root / self.name

    def check(self) -> None:
        """Check what a user may get wrong before anything is read.

        Raises:
            UsageError: as `check_request`, or the folder is in the way.
        """
        check_request(self.name, self.request)
        occupied(self.path)

    def alone(self) -> AbstractContextManager[None]:
        """Keep every other process from making the same folder meanwhile."""
        return at_work(self.root, self.name)

    def outcome(self, data: PreparedData, made: bool) -> Outcome:
        """What came of it, with the time since the job began."""
        return Outcome(data, made, time.perf_counter() - self.started)

    def present(self, raw_sha256: str) -> Outcome | None:
        """What is there already of the same request and raw text, unless it is to be made again."""
        found = None if self.force else already_prepared(self.root, self.name, self.request, raw_sha256)
        return None if found is None else self.outcome(found, False)


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    data: PreparedData
    made: bool
    """False: it was there already."""
    seconds: float

    @property
    def n_bytes(self) -> int:
        """Size of the folder's files, apart from `meta.json`."""
        return sum(self.data.meta.files.values())


@dataclass(frozen=True)
class RowCounts:
    """What became of given rows beside their pairs.

    Attributes:
        skipped: broken ones left out.
        left_out: what was left out of good ones, in words.
        repeated: pairs of each held-out split that stand in train, too.
    """

    skipped: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    repeated: Mapping[SplitName, int] = field(default_factory=dict)


def counter(watch: Watch, stage: str, total: int) -> Callable[[int], None]:
    """A function that adds to what is done and tells the watch."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        watch(stage, done, total)

    return advance


def check_request(name: str, request: Request) -> None:
    """Check a name and a request.

    Raises:
        UsageError: a name that is no folder name, a tokenizer or split out of range.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name) or name == "raw":
        raise UsageError(
            f"cannot name prepared data {name!r}", "letters, digits, dots and dashes, and not raw"
        )
    kind, _ = parse_tokenizer(request.tokenizer)
    if request.alphabet == "data" and kind != "char":
        raise UsageError(f"tokenizer {request.tokenizer} has no alphabet", "--alphabet goes with char")
    if request.pairing != "pairs" and kind == "whitespace":
        message = f"tokenizer {request.tokenizer} is for given pairs, not for {request.pairing} of a text"
        raise UsageError(message, "take char, byte, bpe:SIZE or word:SIZE")
    if request.pairing == "spans" and kind == "backbone":
        message = f"the tokenizer of {request.tokenizer} has no mask for hidden spans"
        raise UsageError(message, "take char, byte, bpe:SIZE or word:SIZE")
    parts = request.split
    if not all(math.isfinite(part) and part > 0 for part in parts) or abs(sum(parts) - 100) > 1e-6:
        shown = "/".join(f"{part:g}" for part in parts)
        raise UsageError(f"split {shown} is out of range", "three percentages above 0 that add up to 100")


def already_prepared(
    root: Path, name: str, request: Request, raw_sha256: str | None = None, where: list[str] | None = None
) -> PreparedData | None:
    """Return the folder when it holds this request, of this raw text or place if one is given.

    Raises:
        UsageError: it holds something else.
    """
    path = root / name
    if not occupied(path):
        return None
    try:
        data = open_prepared(path, root)
    except UsageError:
        return None  # damaged or of an older format: made again
    if data.meta.request != request:
        raise UsageError(f"{path} was prepared with other settings", "--force replaces it, --name keeps both")
    if raw_sha256 not in (None, data.meta.raw_sha256) or where not in (None, data.meta.origin.where):
        raise UsageError(f"{path} was prepared from another text", "--force replaces it, --name keeps both")
    return data


def occupied(path: Path) -> bool:
    """Whether the folder is there, after checking that it may be replaced."""
    if not path.exists():
        return False
    if not path.is_dir() or (any(path.iterdir()) and not (path / META).is_file()):
        raise UsageError(f"{path} is in the way: it is not prepared data", "move it away, or use --name")
    return True


def write_prepared(
    job: Job,
    counts: TextCounts,
    tokenizer: TextTokenizer,
    splits: Iterable[SplitName],
    fill: Callable[[dict[SplitName, SplitWriter]], None],
    has_action: bool = False,
    rows: RowCounts = RowCounts(),
) -> Outcome:
    """Make the folder of a job, whole or not at all.

    Args:
        job: what was asked.
        counts: of the raw text.
        tokenizer: of the tokens.
        splits: names of all splits.
        fill: writes the tokens of each split.
        has_action: whether pairs have an action.
        rows: what was left out of given rows.

    Raises:
        UsageError: the folder cannot be written.
        JepalmError: too little room on the disk.
    """
    tokens = counts.raw_bytes if tokenizer.name == "byte" else counts.characters
    width = 2 if tokenizer.vocab_size <= 1 << 16 else 4
    with new_folder(job.root, job.name, tokens * width + counts.lines * 48 + (1 << 20)) as folder:
        folder.write_tokenizer(tokenizer)
        writers = {name: SplitWriter(folder, name, tokenizer) for name in splits}
        fill(writers)
        meta = describe(job, counts, tokenizer, folder, writers, has_action, rows)
        folder.write_meta(meta.model_dump_json(indent=2) + "\n")
    return job.outcome(PreparedData(job.path, meta), True)


def describe(
    job: Job,
    counts: TextCounts,
    tokenizer: TextTokenizer,
    folder: FolderWriter,
    writers: dict[SplitName, SplitWriter],
    has_action: bool = False,
    rows: RowCounts = RowCounts(),
) -> Meta:
    """Close the splits and describe the whole."""
    splits = {name: writer.close() for name, writer in writers.items()}
    train = writers["train"]
    mean = train.target_sum / max(1, train.pairs)
    unknown = tokenizer.unknown_characters("".join(counts.frequency))
    return Meta(
        corpus=job.corpus,
        origin=job.origin,
        raw_bytes=counts.raw_bytes,
        raw_sha256=counts.raw_sha256,
        licence=job.licence,
        request=job.request,
        tokenizer=tokenizer.name,
        vocab_size=tokenizer.vocab_size,
        splits=splits,
        characters=counts.characters,
        lines=counts.lines,
        distinct_characters=len(counts.frequency),
        longest_source=max(writer.longest["source"] for writer in writers.values()),
        longest_target=max(writer.longest["target"] for writer in writers.values()),
        mean_target=mean,
        std_target=math.sqrt(max(0.0, train.target_squares / max(1, train.pairs) - mean**2)),
        unknown_tokens=sum(writer.unknown for writer in writers.values()),
        unknown_characters=sorted(unknown, key=lambda symbol: -counts.frequency[symbol])[:_SHOWN_UNKNOWN],
        has_action=has_action,
        skipped_rows=rows.skipped,
        left_out=dict(rows.left_out),
        carriage_returns=counts.frequency.get("\r", 0),
        repeated=dict(rows.repeated),
        files=folder.files,
        content_sha256=folder.content_sha256,
    )
