"""Train, validation and test: contiguous blocks, with a gap where neighbours overlap, or by a hash."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Literal

import numpy as np

from jepalm.data.prepared import SPLITS, Request, SplitName
from jepalm.data.text.reading import LONGEST_LINE, TextCounts, code_points
from jepalm.errors import UsageError
from jepalm.numbers import are, counted

_LONGEST_GUARD = 1 << 16
_ANYWHERE = "--pairing windows draws anywhere"

Block = tuple[SplitName | None, int]
"""A block's split (None: left out) and where it ends."""
Shares = dict[SplitName, float]
"""Part of the training texts that goes to another split, 0 to 1."""


def shares_of(request: Request, given: Collection[SplitName]) -> Shares:
    """The part of the training texts that goes to each split that is not given."""
    wanted = zip(SPLITS[1:], request.split[1:], strict=True)
    return {name: percent / 100 for name, percent in wanted if name not in given}


def line_blocks(counts: TextCounts, request: Request) -> list[Block]:
    """Blocks of lines, with one line left out between two.

    Raises:
        UsageError: too few lines, or one too long to be a unit.
    """
    if counts.lines == 1:
        returns = counts.frequency.get("\r", 0)
        way = "--normalize-newlines reads carriage returns as newlines" if returns else _ANYWHERE
        raise UsageError("the text is one line: none follows it to predict", way)
    if counts.longest_line > LONGEST_LINE:
        raise UsageError(
            f"a line has {counts.longest_line:,} characters, more than {LONGEST_LINE:,}", _ANYWHERE
        )
    return _blocks(counts.lines, request, guard=1, least=2, unit="line")


def window_blocks(counts: TextCounts, request: Request) -> list[Block]:
    """Blocks of characters; between two, enough is left out to hold a whole line."""
    guard = min(2 * counts.longest_line, counts.characters // 200, _LONGEST_GUARD)
    return _blocks(counts.characters, request, guard=guard, least=2, unit="character")


def row_blocks(
    counts: TextCounts, request: Request, given: Mapping[SplitName, int] | None = None
) -> list[Block]:
    """Blocks of rows; a row's pairs stay together.

    Given splits stand at the end as they are; the others are cut from the rows before them.
    """
    if not given:
        return _blocks(counts.lines, request, guard=0, least=1, unit="good row")
    cut = counts.lines - sum(given.values())
    shares = zip(SPLITS[1:], request.split[1:], strict=True)
    sizes = {name: max(1, round(cut * percent / 100)) for name, percent in shares if name not in given}
    train = cut - sum(sizes.values())
    if train < 1:
        few = f"{counted(cut, 'good row')} {are(cut)} too few"
        message = f"{few} for train and {' and '.join(sizes)}: train would be empty"
        raise UsageError(message, "give more rows, or a larger share of train with --split")
    ends = accumulate([train, *sizes.values(), *given.values()])
    return list(zip(("train", *sizes, *given), ends, strict=True))


def split_of(text: str, shares: Shares) -> SplitName:
    """The split of a document or source, drawn by the hash of its text; train where no share takes it."""
    if not shares:
        return "train"
    drawn = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64
    for name, share in shares.items():
        if drawn < share:
            return name
        drawn -= share
    return "train"


def split_at(fingerprint: int, percent: tuple[float, float, float]) -> SplitName:
    """The split of what is drawn, by 64 bits of its hash; the held-out shares grow with their percentages."""
    place = 100 * fingerprint / 2**64
    _, validation, test = percent
    return "test" if place < test else "validation" if place < test + validation else "train"


def drawn_by_split(pairs: int, percent: tuple[float, float, float]) -> dict[SplitName, int]:
    """How many pairs each split gets of those to be drawn.

    Raises:
        UsageError: too few for three splits.
    """
    validation, test = (max(1, round(pairs * share / 100)) for share in percent[1:])
    train = pairs - validation - test
    if train < 1:
        raise UsageError(f"{pairs:,} pairs are too few for train, validation and test", "ask for more")
    return {"train": train, "validation": validation, "test": test}


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
        if n < needed:
            message = (
                f"{counted(n, unit)} {are(n)} too few for train, validation and test: train would be empty"
            )
            raise UsageError(message, f"at least {needed:,} are needed")
        shown = "/".join(f"{part:g}" for part in request.split)
        message = f"split {shown} of {counted(n, unit)} leaves none for train: validation and test take"
        raise UsageError(f"{message} {validation:,} and {test:,}", "--split can give train a larger share")
    ends: list[Block] = [("train", train), (None, train + guard), ("validation", train + validation)]
    ends += [(None, train + validation + guard), ("test", n)]
    return ends if guard else [block for block in ends if block[0] is not None]
