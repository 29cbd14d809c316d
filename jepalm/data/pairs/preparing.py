"""From given pairs to prepared data: count once, then encode batch by batch.

Memory grows by 25 bytes a pair: rows are read one after the other, shards are bounded.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from jepalm.data.job import Job, Outcome, RowCounts, counter, write_prepared
from jepalm.data.learning import build_tokenizer, evenly_drawn
from jepalm.data.pairs.duplicates import (
    LEFT_OUT,
    SPLIT_NAMES,
    Places,
    RowKeys,
    grouped_splits,
    repeated_pairs,
    splits_of_rows,
)
from jepalm.data.pairs.reading import PairSource
from jepalm.data.pairs.records import PairRecord
from jepalm.data.prepared import SPLITS, Request, Role, SplitName
from jepalm.data.text.reading import CharacterCounter, TextCounts, code_points
from jepalm.data.text.splitting import row_blocks, shares_of, split_of
from jepalm.data.tokenizer import TextTokenizer, parse_tokenizer
from jepalm.data.writing import SplitWriter
from jepalm.errors import UsageError
from jepalm.numbers import counted

_PAIRS_AT_ONCE = 4096
_CHARACTERS_AT_ONCE = 1 << 20


def prepare_pairs(job: Job, source: PairSource) -> Outcome:
    """Prepare given pairs.

    Raises:
        UsageError: a row is no pair, there are too few, or the folder is in the way.
        JepalmError: too little room on the disk.
    """
    job.check()
    with job.alone():
        return _prepare(job, source)


def _prepare(job: Job, source: PairSource) -> Outcome:
    counts, keys, has_action = _count(source, counter(job.watch, "reading", source.n_bytes))
    skipped, left_out = source.skipped, +source.left_out
    if present := job.present(counts.raw_sha256):
        return present
    blocks = row_blocks(counts, job.request, source.given)
    places = splits_of_rows(blocks, counts.lines)
    if job.request.split_by == "source":
        n_cut = counts.lines - sum(source.given.values())
        places[:n_cut] = _splits_of_sources(source, job.request, n_cut)
    if job.request.dedup:
        places, gone = grouped_splits(places, keys, job.request, source.given)
        left_out["pairs of train that stand in a given split"] += gone
    repeated = repeated_pairs(places, keys)

    def rows(stage: str) -> Iterator[tuple[SplitName, list[PairRecord]]]:
        advance = counter(job.watch, stage, source.n_bytes)
        remaining = iter(places.tolist())
        for raw, pairs in source.read():
            advance(len(raw))
            if pairs and (place := next(remaining)) != LEFT_OUT:
                yield SPLIT_NAMES[place], pairs

    def training_text() -> Iterator[str]:
        learned = (pairs for name, pairs in rows("learning") if name == "train")
        if parse_tokenizer(job.request.tokenizer)[0] in ("word", "whitespace"):
            # The last word of a text and the first of the next are no word.
            texts = (text for pairs in learned for text in _texts(pairs) if text)
        else:
            texts = ("".join(_texts(pairs)) for pairs in learned)
        return evenly_drawn(texts, counts.characters)

    tokenizer = build_tokenizer(job.request, counts.frequency, training_text)

    def fill(writers: dict[SplitName, SplitWriter]) -> None:
        for name, batch in _batches(rows("writing")):
            _write(writers[name], batch, tokenizer)

    splits = dict.fromkeys((*SPLITS, *source.given))
    row_counts = RowCounts(skipped, +left_out, repeated)
    return write_prepared(job, counts, tokenizer, splits, fill, has_action, row_counts)


def _count(source: PairSource, advance: Callable[[int], None]) -> tuple[TextCounts, RowKeys, bool]:
    """Counts of all pairs, what equal ones share, and whether they have actions."""
    digest = hashlib.sha256()
    counts = TextCounts()
    characters = CharacterCounter()
    has_action = False
    pending: list[str] = []
    keys, ends = array("q"), array("q")

    def count_pending() -> None:
        codes = code_points("".join(pending))
        characters.add(codes)
        counts.characters += len(codes)
        pending.clear()

    for raw, pairs in source.read():
        digest.update(raw)
        advance(len(raw))
        if not pairs:
            continue
        pending.append("".join(_texts(pairs)))
        if len(pending) >= _PAIRS_AT_ONCE or len(pending[-1]) >= _CHARACTERS_AT_ONCE:
            count_pending()
        counts.lines += 1
        keys.extend(hash((pair.source, pair.target, pair.action)) for pair in pairs)
        ends.append(len(keys))
        has_action = pairs[0].action is not None
    count_pending()
    counts.raw_bytes = source.n_bytes
    counts.raw_sha256 = digest.hexdigest()
    counts.frequency = characters.frequency()
    return counts, RowKeys.of(keys, ends), has_action


def _splits_of_sources(source: PairSource, request: Request, n_rows: int) -> Places:
    """The split of each of the first rows, drawn by the hash of its first source, (n_rows,).

    Raises:
        UsageError: the sources do not fill every split.
    """
    shares = shares_of(request, source.given)
    rows = islice((pairs for _, pairs in source.read() if pairs), n_rows)
    names = [split_of(pairs[0].source, shares) for pairs in rows]
    if missing := {"train", *shares} - set(names):
        message = (
            f"{counted(n_rows, 'good row')}, split by their sources, leave none for {sorted(missing)[0]}"
        )
        raise UsageError(message, "give more rows, or other shares with --split")
    return np.array([SPLIT_NAMES.index(name) for name in names], dtype=np.int8)


def _texts(pairs: list[PairRecord]) -> Iterator[str]:
    return (text for pair in pairs for text in (pair.source, pair.target, pair.action or ""))


def _batches(
    rows: Iterator[tuple[SplitName, list[PairRecord]]],
) -> Iterator[tuple[SplitName, list[PairRecord]]]:
    """Join the rows of one split to batches that are encoded at once."""
    name: SplitName = "train"
    batch: list[PairRecord] = []
    size = 0
    for split, pairs in rows:
        if batch and (split != name or len(batch) >= _PAIRS_AT_ONCE or size >= _CHARACTERS_AT_ONCE):
            yield name, batch
            batch, size = [], 0
        name = split
        batch.extend(pairs)
        size += sum(len(pair.source) + len(pair.target) for pair in pairs)
    if batch:
        yield name, batch


def _write(writer: SplitWriter, pairs: list[PairRecord], tokenizer: TextTokenizer) -> None:
    roles: tuple[Role, ...] = (
        ("source", "target") if pairs[0].action is None else ("source", "target", "action")
    )
    texts = [getattr(pair, role) for pair in pairs for role in roles]
    ids, lengths = tokenizer.encode_texts(texts)
    ends = np.cumsum(lengths)
    spans = np.stack([ends - lengths, ends], axis=1).reshape(len(pairs), len(roles), 2)
    writer.rows(ids, {role: spans[:, index] for index, role in enumerate(roles)})
