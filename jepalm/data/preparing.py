"""From raw text or rows to prepared data: count once, then encode block by block.

Memory does not grow with the input: text is read in chunks, shards are bounded.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np

from jepalm.data.backbone_tokenizer import load_backbone_tokenizer
from jepalm.data.prepared import (
    META,
    SPLITS,
    Meta,
    Origin,
    PreparedData,
    Request,
    Role,
    SplitName,
    open_prepared,
)
from jepalm.data.reading import (
    LONGEST_LINE,
    CharacterCounter,
    RawText,
    Row,
    Rows,
    TextCounts,
    code_points,
    count_text,
    whole_lines,
)
from jepalm.data.tokenizer import (
    FIXED_ALPHABET,
    TextTokenizer,
    bpe_tokenizer,
    byte_tokenizer,
    char_tokenizer,
    parse_tokenizer,
    with_mask,
)
from jepalm.data.writing import FolderWriter, SplitWriter, new_folder
from jepalm.errors import UsageError

BPE_SAMPLE = 1 << 24
"""Characters of the training text from which byte pairs are learned."""
_ROWS_AT_ONCE = 4096
_CHARACTERS_AT_ONCE = 1 << 20
_SHOWN_UNKNOWN = 20
_LONGEST_GUARD = 1 << 16

Block = tuple[SplitName | None, int]
"""A block's split (None: left out) and where it ends."""
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
        raise UsageError(
            f"the tokenizer of {request.tokenizer} has no mask for hidden spans",
            "take char, byte or bpe:SIZE",
        )
    parts = request.split
    if not all(math.isfinite(part) and part > 0 for part in parts) or abs(sum(parts) - 100) > 1e-6:
        shown = "/".join(f"{part:g}" for part in parts)
        raise UsageError(f"split {shown} is out of range", "three percentages above 0 that add up to 100")


def already_prepared(
    root: Path, name: str, request: Request, raw_sha256: str | None = None
) -> PreparedData | None:
    """Return the folder when it holds this request, of this raw text if one is given.

    Raises:
        UsageError: it holds something else.
    """
    path = root / name
    if not _occupied(path):
        return None
    try:
        data = open_prepared(path, root)
    except UsageError:
        return None  # damaged or of an older format: made again
    if data.meta.request != request:
        raise UsageError(f"{path} was prepared with other settings", "--force replaces it, --name keeps both")
    if raw_sha256 is not None and data.meta.raw_sha256 != raw_sha256:
        raise UsageError(f"{path} was prepared from another text", "--force replaces it, --name keeps both")
    return data


def prepare_text(job: Job, raw: RawText) -> Outcome:
    """Prepare a text for next-line pairs, windows or spans.

    Raises:
        UsageError: the text cannot be read or is too short, or the folder is in the way.
        JepalmError: too little room on the disk.
    """
    started = time.perf_counter()
    check_request(job.name, job.request)
    _occupied(job.root / job.name)
    counts = count_text(raw, _advance(job, "reading", raw))
    present = already_prepared(job.root, job.name, job.request, counts.raw_sha256) if not job.force else None
    if present is not None:
        return Outcome(present, False, time.perf_counter() - started)
    by_line = job.request.pairing == "lines"
    blocks = line_blocks(counts, job.request) if by_line else window_blocks(counts, job.request)
    unit: Literal["lines", "characters"] = "lines" if by_line else "characters"

    def pieces(stage: str) -> Iterator[tuple[SplitName, str]]:
        chunks = raw.chunks(advance=_advance(job, stage, raw))
        return segments(whole_lines(chunks) if by_line else chunks, blocks, unit)

    def training_text() -> Iterator[str]:
        sizes = {"lines": counts.lines, "characters": counts.characters}
        expected = counts.characters * blocks[0][1] // max(1, sizes[unit])
        texts = (text for name, text in pieces("learning") if name == "train")
        return _sample(texts, expected)

    tokenizer = _build_tokenizer(job.request, counts.frequency, training_text)
    with new_folder(job.root, job.name, _needed_bytes(counts, tokenizer)) as folder:
        folder.write_tokenizer(tokenizer)
        writers = {name: SplitWriter(folder, name, tokenizer) for name in SPLITS}
        for name, text in pieces("writing"):
            if by_line:
                writers[name].lines(*tokenizer.encode_lines(text))
            else:
                writers[name].stream(tokenizer.encode_flat(text))
        meta = _describe(job, counts, tokenizer, folder, writers)
        folder.write_meta(meta.model_dump_json(indent=2) + "\n")
    return Outcome(PreparedData(job.root / job.name, meta), True, time.perf_counter() - started)


def prepare_rows(job: Job, raw: Rows) -> Outcome:
    """Prepare given pairs.

    Raises:
        UsageError: a row is no pair, there are too few, or the folder is in the way.
        JepalmError: too little room on the disk.
    """
    started = time.perf_counter()
    check_request(job.name, job.request)
    _occupied(job.root / job.name)
    counts, has_action = _count_rows(raw, _advance(job, "reading", raw))
    present = already_prepared(job.root, job.name, job.request, counts.raw_sha256) if not job.force else None
    if present is not None:
        return Outcome(present, False, time.perf_counter() - started)
    blocks = row_blocks(counts, job.request, raw.given)

    def rows(stage: str) -> Iterator[tuple[SplitName, list[Row]]]:
        remaining = iter(blocks)
        name, end = next(remaining)
        for place, row in enumerate(raw.rows(advance=_advance(job, stage, raw))):
            if place == end:
                name, end = next(remaining)
            if name is not None:
                yield name, row

    def training_text() -> Iterator[str]:
        texts = (_joined(row) for name, row in rows("learning") if name == "train")
        return _sample(texts, counts.characters)

    tokenizer = _build_tokenizer(job.request, counts.frequency, training_text)
    with new_folder(job.root, job.name, _needed_bytes(counts, tokenizer)) as folder:
        folder.write_tokenizer(tokenizer)
        writers = {name: SplitWriter(folder, name, tokenizer) for name in SPLITS}
        for name, batch in _batched(rows("writing")):
            _write_rows(writers[name], batch, tokenizer)
        meta = _describe(job, counts, tokenizer, folder, writers, has_action, raw.skipped)
        folder.write_meta(meta.model_dump_json(indent=2) + "\n")
    return Outcome(PreparedData(job.root / job.name, meta), True, time.perf_counter() - started)


def line_blocks(counts: TextCounts, request: Request) -> list[Block]:
    """Blocks of lines, with one line left out between two.

    Raises:
        UsageError: too few lines, or one too long to be a unit.
    """
    if counts.lines == 1:
        raise UsageError(
            "the text is one line: none follows it to predict", "--pairing windows draws anywhere"
        )
    if counts.longest_line > LONGEST_LINE:
        raise UsageError(
            f"a line has {counts.longest_line:,} characters, more than {LONGEST_LINE:,}",
            "--pairing windows draws anywhere",
        )
    return _blocks(counts.lines, request, guard=1, least=2, unit="lines")


def window_blocks(counts: TextCounts, request: Request) -> list[Block]:
    """Blocks of characters; between two, enough is left out to hold a whole line."""
    guard = min(2 * counts.longest_line, counts.characters // 200, _LONGEST_GUARD)
    return _blocks(counts.characters, request, guard=guard, least=2, unit="characters")


def row_blocks(
    counts: TextCounts, request: Request, given: Mapping[SplitName, int] | None = None
) -> list[Block]:
    """Blocks of rows; a row's pairs stay together.

    Given splits stand at the end as they are; the others are cut from the rows before them.
    """
    if not given:
        return _blocks(counts.lines, request, guard=0, least=1, unit="good rows")
    cut = counts.lines - sum(given.values())
    shares = zip(SPLITS[1:], request.split[1:], strict=True)
    sizes = {name: max(1, round(cut * percent / 100)) for name, percent in shares if name not in given}
    train = cut - sum(sizes.values())
    if train < 1:
        raise UsageError(
            f"{cut:,} good rows are too few for train and {' and '.join(sizes)}", "give more rows"
        )
    ends = accumulate([train, *sizes.values(), *given.values()])
    return list(zip(("train", *sizes, *given), ends, strict=True))


def segments(
    chunks: Iterable[str], blocks: list[Block], unit: Literal["lines", "characters"]
) -> Iterator[tuple[SplitName, str]]:
    """Cut chunks at the ends of the blocks, and leave out what belongs to no split."""
    remaining = iter(blocks)
    name, end = next(remaining)
    place = 0
    for chunk in chunks:
        rest = chunk
        while rest:
            while place == end:
                following = next(remaining, None)
                if following is None:
                    return
                name, end = following
            size = rest.count("\n") if unit == "lines" else len(rest)
            piece, rest = (rest, "") if size <= end - place else _cut(rest, end - place, unit)
            place += min(size, end - place)
            if name is not None:
                yield name, piece


def _cut(text: str, count: int, unit: Literal["lines", "characters"]) -> tuple[str, str]:
    if unit == "lines":
        count = int(np.flatnonzero(code_points(text) == ord("\n"))[count - 1]) + 1
    return text[:count], text[count:]


def _blocks(n: int, request: Request, guard: int, least: int, unit: str) -> list[Block]:
    validation, test = (max(least + guard, round(n * percent / 100)) for percent in request.split[1:])
    train = n - validation - test
    if train < least:
        needed = 3 * least + 2 * guard
        raise UsageError(
            f"{n:,} {unit} are too few for train, validation and test", f"at least {needed:,} are needed"
        )
    ends: list[Block] = [("train", train), (None, train + guard), ("validation", train + validation)]
    ends += [(None, train + validation + guard), ("test", n)]
    return ends if guard else [block for block in ends if block[0] is not None]


def _occupied(path: Path) -> bool:
    """Whether the folder is there, after checking that it may be replaced."""
    if not path.exists():
        return False
    if not path.is_dir() or (any(path.iterdir()) and not (path / META).is_file()):
        raise UsageError(f"{path} is in the way: it is not prepared data", "move it away, or use --name")
    return True


def _build_tokenizer(
    request: Request, frequency: dict[str, int], training_text: Callable[[], Iterator[str]]
) -> TextTokenizer:
    kind, size = parse_tokenizer(request.tokenizer)
    if kind == "bpe":
        built = bpe_tokenizer(size, training_text())
    elif kind == "byte":
        built = byte_tokenizer()
    elif kind == "backbone":
        built = load_backbone_tokenizer(request.tokenizer).text
    else:
        built = char_tokenizer(sorted(frequency) if request.alphabet == "data" else FIXED_ALPHABET)
    return with_mask(built) if request.pairing == "spans" else built


def _sample(texts: Iterator[str], expected: int) -> Iterator[str]:
    """Pieces spread evenly over the texts, about `BPE_SAMPLE` characters in all."""
    share = min(1.0, BPE_SAMPLE / max(1, expected))
    seen = taken = 0
    for text in texts:
        for at in range(0, len(text), 1 << 16):
            piece = text[at : at + (1 << 16)]
            seen += len(piece)
            if taken < share * seen:
                taken += len(piece)
                yield piece


def _needed_bytes(counts: TextCounts, tokenizer: TextTokenizer) -> int:
    tokens = counts.raw_bytes if tokenizer.name == "byte" else counts.characters
    width = 2 if tokenizer.vocab_size <= 1 << 16 else 4
    return tokens * width + counts.lines * 48 + (1 << 20)


def _describe(
    job: Job,
    counts: TextCounts,
    tokenizer: TextTokenizer,
    folder: FolderWriter,
    writers: dict[SplitName, SplitWriter],
    has_action: bool = False,
    skipped_rows: int = 0,
) -> Meta:
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


def _count_rows(raw: Rows, advance: Callable[[int], None]) -> tuple[TextCounts, bool]:
    digest = hashlib.sha256()
    counts = TextCounts()
    characters = CharacterCounter()
    has_action = False
    pending: list[str] = []

    def count_pending() -> None:
        codes = code_points("".join(pending))
        characters.add(codes)
        counts.characters += len(codes)
        pending.clear()

    for row in raw.rows(digest, advance):
        pending.append(_joined(row))
        if len(pending) >= _ROWS_AT_ONCE or len(pending[-1]) >= _CHARACTERS_AT_ONCE:
            count_pending()
        counts.lines += 1
        has_action = row[0].action is not None
    count_pending()
    counts.raw_bytes = raw.n_bytes
    counts.raw_sha256 = digest.hexdigest()
    counts.frequency = characters.frequency()
    return counts, has_action


def _joined(row: list[Row]) -> str:
    return "".join(pair.source + pair.target + (pair.action or "") for pair in row)


def _batched(
    rows: Iterator[tuple[SplitName, list[Row]]],
) -> Iterator[tuple[SplitName, list[Row]]]:
    """Join the rows of one split to batches that are encoded at once."""
    name: SplitName = "train"
    batch: list[Row] = []
    size = 0
    for split, row in rows:
        if batch and (split != name or len(batch) >= _ROWS_AT_ONCE or size >= _CHARACTERS_AT_ONCE):
            yield name, batch
            batch, size = [], 0
        name = split
        batch.extend(row)
        size += sum(len(pair.source) + len(pair.target) for pair in row)
    if batch:
        yield name, batch


def _write_rows(writer: SplitWriter, rows: list[Row], tokenizer: TextTokenizer) -> None:
    roles: tuple[Role, ...] = (
        ("source", "target") if rows[0].action is None else ("source", "target", "action")
    )
    texts = [getattr(row, role) for row in rows for role in roles]
    ids, lengths = tokenizer.encode_texts(texts)
    ends = np.cumsum(lengths)
    spans = np.stack([ends - lengths, ends], axis=1).reshape(len(rows), len(roles), 2)
    writer.rows(ids, {role: spans[:, index] for index, role in enumerate(roles)})


def _advance(job: Job, stage: str, raw: RawText | Rows) -> Callable[[int], None]:
    total = raw.n_bytes
    done = 0

    def advance(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        job.watch(stage, done, total)

    return advance
