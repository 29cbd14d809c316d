"""From raw text or rows to prepared data: count once, then encode block by block.

Memory does not grow with the input: text is read in chunks, shards are bounded.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from jepalm.data.job import Job, Outcome, already_prepared, check_request, describe, occupied
from jepalm.data.learning import build_tokenizer, evenly_drawn
from jepalm.data.prepared import SPLITS, PreparedData, Role, SplitName
from jepalm.data.reading import (
    CharacterCounter,
    RawText,
    Row,
    Rows,
    TextCounts,
    code_points,
    count_text,
    whole_lines,
)
from jepalm.data.splitting import line_blocks, row_blocks, segments, window_blocks
from jepalm.data.tokenizer import TextTokenizer, parse_tokenizer
from jepalm.data.writing import SplitWriter, new_folder

_ROWS_AT_ONCE = 4096
_CHARACTERS_AT_ONCE = 1 << 20


def prepare_text(job: Job, raw: RawText) -> Outcome:
    """Prepare a text for next-line pairs, windows or spans.

    Raises:
        UsageError: the text cannot be read or is too short, or the folder is in the way.
        JepalmError: too little room on the disk.
    """
    started = time.perf_counter()
    check_request(job.name, job.request)
    occupied(job.root / job.name)
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
        return evenly_drawn(texts, expected)

    tokenizer = build_tokenizer(job.request, counts.frequency, training_text)
    with new_folder(job.root, job.name, _needed_bytes(counts, tokenizer)) as folder:
        folder.write_tokenizer(tokenizer)
        writers = {name: SplitWriter(folder, name, tokenizer) for name in SPLITS}
        for name, text in pieces("writing"):
            if by_line:
                writers[name].lines(*tokenizer.encode_lines(text))
            else:
                writers[name].stream(tokenizer.encode_flat(text))
        meta = describe(job, counts, tokenizer, folder, writers)
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
    occupied(job.root / job.name)
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
        learned = (row for name, row in rows("learning") if name == "train")
        texts = (text for row in learned for text in (_apart(row) if by_word else [_joined(row)]))
        return evenly_drawn(texts, counts.characters)

    by_word = parse_tokenizer(job.request.tokenizer)[0] == "word"

    tokenizer = build_tokenizer(job.request, counts.frequency, training_text)
    with new_folder(job.root, job.name, _needed_bytes(counts, tokenizer)) as folder:
        folder.write_tokenizer(tokenizer)
        names = dict.fromkeys((*SPLITS, *raw.given))
        writers = {name: SplitWriter(folder, name, tokenizer) for name in names}
        for name, batch in _batched(rows("writing")):
            _write_rows(writers[name], batch, tokenizer)
        meta = describe(job, counts, tokenizer, folder, writers, has_action, raw.skipped)
        folder.write_meta(meta.model_dump_json(indent=2) + "\n")
    return Outcome(PreparedData(job.root / job.name, meta), True, time.perf_counter() - started)


def _needed_bytes(counts: TextCounts, tokenizer: TextTokenizer) -> int:
    tokens = counts.raw_bytes if tokenizer.name == "byte" else counts.characters
    width = 2 if tokenizer.vocab_size <= 1 << 16 else 4
    return tokens * width + counts.lines * 48 + (1 << 20)


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


def _apart(row: list[Row]) -> Iterator[str]:
    """Each text by itself: the last word of one and the first of the next are no word."""
    return (text for pair in row for text in (pair.source, pair.target, pair.action) if text)


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
