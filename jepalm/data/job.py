"""What is to be prepared, whether it may be, and the description of what was made."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jepalm.data.prepared import META, Meta, Origin, PreparedData, Request, SplitName, open_prepared
from jepalm.data.reading import TextCounts
from jepalm.data.tokenizer import TextTokenizer, parse_tokenizer
from jepalm.data.writing import FolderWriter, SplitWriter
from jepalm.errors import UsageError

_SHOWN_UNKNOWN = 20

Watch = Callable[[str, int, int], None]
"""Told the stage, bytes done, bytes in all."""


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


def check_request(name: str, request: Request) -> None:
    """Check what a user may get wrong before anything is read.

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
    if request.pairing == "spans" and kind == "backbone":
        message = f"the tokenizer of {request.tokenizer} has no mask for hidden spans"
        raise UsageError(message, "take char, byte, bpe:SIZE or word:SIZE")
    parts = request.split
    if not all(math.isfinite(part) and part > 0 for part in parts) or abs(sum(parts) - 100) > 1e-6:
        shown = "/".join(f"{part:g}" for part in parts)
        raise UsageError(f"split {shown} is out of range", "three percentages above 0 that add up to 100")


def already_prepared(
    root: Path,
    name: str,
    request: Request,
    raw_sha256: str | None = None,
    where: list[str] | None = None,
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


def describe(
    job: Job,
    counts: TextCounts,
    tokenizer: TextTokenizer,
    folder: FolderWriter,
    writers: dict[SplitName, SplitWriter],
    has_action: bool = False,
    skipped_rows: int = 0,
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
        skipped_rows=skipped_rows,
        files=folder.files,
        content_sha256=folder.content_sha256,
    )
