"""Pairs of a sentence and its expression: drawn so that no language is in two splits, or checked as read."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

from jepalm.data.pairs.reading import PairSource
from jepalm.data.pairs.records import BadRowError, PairRecord
from jepalm.data.prepared import SPLITS, Drawn, SplitName
from jepalm.data.regex.automaton import Language, language
from jepalm.data.regex.grammar import draw
from jepalm.data.regex.saying import english, expression
from jepalm.data.regex.syntax import ExpressionTooLargeError, MalformedExpressionError, parse
from jepalm.data.text.splitting import drawn_by_split, split_at
from jepalm.errors import UsageError

MOST_IN_VAIN = 50_000
"""Repeated sentences in a row after which the grammar counts as exhausted."""
_BITS_A_PAIR = 32


@dataclass
class DrawnPairs(PairSource):
    """The pairs, kept as the indices of their draws: 8 bytes a pair, and the same each time they are read."""

    seed: int
    indices: dict[SplitName, array[int]] = field(
        default_factory=lambda: {name: array("Q") for name in SPLITS}
    )
    n_bytes: int = 0
    """Size as JSON rows."""
    drawn: int = 0
    """Sentences drawn, without repeated ones."""
    degenerate: int = 0
    """Of these, how many say nothing: the empty language, or that of every line."""

    def read(self) -> Iterator[tuple[bytes, list[PairRecord]]]:
        """Yield each pair as a row of its own."""
        for name in SPLITS:
            for index in self.indices[name]:
                pair = _pair(self.seed, index)
                yield _line(pair), [pair]


def draw_pairs(
    asked: Drawn, split: tuple[float, float, float], advance: Callable[[int], None] | None = None
) -> DrawnPairs:
    """Draw as many different sentences as asked, each into the split of its language.

    The split of a language follows from a hash of it, whatever the seed and the number of pairs, so that also
    pairs drawn later with another seed keep out of the held-out languages. Degenerate languages are
    dropped, or kept in the training split. An expression beyond the bound on automata is not taken.

    Args:
        asked: number of pairs, seed, what to keep.
        split: percent of the pairs in train, validation and test.
        advance: called with the number of pairs taken since the last call.

    Raises:
        UsageError: too few pairs for three splits, or more than the grammar has.
    """
    room = drawn_by_split(asked.pairs, split)
    found = DrawnPairs(asked.seed)
    seen = _Seen(asked.pairs)
    index = in_vain = 0
    while any(room.values()):
        pair = _pair(asked.seed, index)
        repeated = seen.before(pair.source)
        in_vain = in_vain + 1 if repeated else 0
        name = None if repeated else _split_of(pair.target, asked, split, found)
        if name is not None and room[name]:
            room[name] -= 1
            found.indices[name].append(index)
            found.n_bytes += len(_line(pair))
            if advance is not None:
                advance(1)
        if in_vain > MOST_IN_VAIN:
            taken = asked.pairs - sum(room.values())
            missing = " and ".join(split for split, count in room.items() if count)
            hint = f"ask for fewer pairs, or a smaller share of {missing}"
            raise UsageError(f"the grammar gives no more pairs for {missing} after {taken:,} in all", hint)
        index += 1
    found.given = {name: len(found.indices[name]) for name in SPLITS if name != "train"}
    return found


def check_pair(pair: PairRecord) -> None:
    """Check that the target of a pair is an expression.

    Raises:
        BadRowError: it is none; says what is wrong.
    """
    try:
        parse(pair.target)
    except (MalformedExpressionError, ExpressionTooLargeError) as error:
        raise BadRowError(f"target is no regular expression: {error.message}") from None


def _pair(seed: int, index: int) -> PairRecord:
    meaning = draw(seed, index)
    return PairRecord(english(meaning), expression(meaning))


def _line(pair: PairRecord) -> bytes:
    return (json.dumps({"source": pair.source, "target": pair.target}) + "\n").encode()


def _split_of(
    target: str, asked: Drawn, split: tuple[float, float, float], found: DrawnPairs
) -> SplitName | None:
    """The split that may hold this expression; counts what is drawn."""
    try:
        described = language(target)
    except ExpressionTooLargeError:
        return None
    found.drawn += 1
    found.degenerate += described.degenerate
    if described.degenerate:
        return "train" if asked.keep_degenerate else None
    return split_of(described, split)


def split_of(described: Language, split: tuple[float, float, float]) -> SplitName:
    """The split of a language, by its hash."""
    return split_at(described.fingerprint, split)


class _Seen:
    """Which sentences were drawn before (a Bloom filter, 4 bytes a pair).

    Some new sentences, a few in a thousand, are taken for repeated ones, and others take their place;
    a repeated one is never taken for new.
    """

    def __init__(self, pairs: int) -> None:
        self._bits = bytearray(_BITS_A_PAIR // 8 * max(pairs, 1000))

    def before(self, text: str) -> bool:
        key = int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "big")
        known = True
        for place in (key >> 64, key & (1 << 64) - 1):
            byte, bit = divmod(place % (8 * len(self._bits)), 8)
            known = known and bool(self._bits[byte] >> bit & 1)
            self._bits[byte] |= 1 << bit
        return known
