"""A Witten-Bell n-gram model of the training text: a floor for generators, a cheap scorer, an expert.

Witten and Bell 1991, method C, interpolated (Chen and Goodman 1998, section 2.5): with c(h, w) the count of
token w after context h, N(h) their sum and T(h) the number of distinct ones,

    P(w | h) = (c(h, w) + T(h) P(w | h')) / (N(h) + T(h)),

where h' lacks the oldest token of h. Below the empty context stands the uniform distribution, so every
token has a finite NLL. A context that was never seen says what the next shorter one says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Level:
    """All contexts of one length.

    Attributes:
        contexts: (C,) sorted keys, `shorter context * vocab_size + the token before it`.
        pairs: (P,) sorted keys, `context * vocab_size + next token`.
        counts: (P,) how often each pair was seen; without a part of the text maybe never.
        vocab_size: every token is below it.
    """

    contexts: Ids
    pairs: Ids
    counts: Ids
    vocab_size: int

    @cached_property
    def first(self) -> Ids:
        """Where each context's pairs begin, and the number of pairs, (C + 1,)."""
        return np.searchsorted(self.pairs // self.vocab_size, np.arange(len(self.contexts) + 1))

    @cached_property
    def total(self) -> Ids:
        """N(h), (C,)."""
        return self._sums(self.counts)

    @cached_property
    def types(self) -> Ids:
        """T(h), (C,)."""
        return self._sums(self.counts > 0)

    def _sums(self, numbers: NDArray[np.integer] | NDArray[np.bool_]) -> Ids:
        """Sum over each context's pairs, (P,) to (C,)."""
        return np.diff(np.append(0, np.cumsum(numbers))[self.first])

    @cached_property
    def tokens(self) -> Ids:
        """The next token of each pair, (P,)."""
        return self.pairs % self.vocab_size

    @cached_property
    def ends(self) -> Ids:
        """Running sum of the counts, (P,)."""
        return np.cumsum(self.counts)

    @cached_property
    def before(self) -> Ids:
        """Sum of the counts of all earlier contexts, (C,)."""
        return np.cumsum(self.total) - self.total


class NGram:
    """A model that has read a text: scores and samples, both exact and reproducible."""

    def __init__(self, levels: list[Level], vocab_size: int) -> None:
        self.levels, self.vocab_size = levels, vocab_size

    @property
    def order(self) -> int:
        """Tokens of the longest context, and one."""
        return len(self.levels)

    @property
    def name(self) -> str:
        """What it is, for people."""
        return f"Witten-Bell {self.order}-gram"

    @classmethod
    def fit(
        cls,
        ids: NDArray[np.integer],
        vocab_size: int,
        order: int = 5,
        starts: NDArray[np.integer] | None = None,
    ) -> Self:
        """Count a text.

        Args:
            ids: (T,) token ids; at least one.
            vocab_size: every id is below it.
            order: longest context and one; 5 counts up to four tokens of context.
            starts: places where a new document begins, which no context reaches across; the first
                token alone when empty.
        """
        levels = []
        for contexts, _, keys in _events(ids, vocab_size, order, starts):
            levels.append(Level(contexts, *np.unique(keys, return_counts=True), vocab_size))
        return cls(levels, vocab_size)

    @classmethod
    def cross_fit(
        cls,
        ids: NDArray[np.integer],
        vocab_size: int,
        order: int,
        folds: NDArray[np.integer],
        starts: NDArray[np.integer] | None = None,
        counted: NDArray[np.bool_] | None = None,
    ) -> tuple[Self, list[Self]]:
        """Count a text, and for each of its folds the text without it.

        Args:
            ids: (T,) token ids; at least one.
            vocab_size: every id is below it.
            order: longest context and one.
            folds: (T,) the fold of each token, from 0.
            starts: see `fit`.
            counted: (T,) which tokens are counted as the next one; the others are context. All when None.

        Returns:
            the model of the whole text, and for each fold one without any n-gram that has a token of it.
        """
        n_folds = int(folds.max()) + 1
        inside = [folds == fold for fold in range(n_folds)]
        touched = [which.copy() for which in inside]  # whether a token of the n-gram that ends here is inside
        whole: list[Level] = []
        without: list[list[Level]] = [[] for _ in inside]
        for length, (contexts, at, keys) in enumerate(_events(ids, vocab_size, order, starts, counted)):
            pairs, pair_of, counts = np.unique(keys, return_inverse=True, return_counts=True)
            whole.append(Level(contexts, pairs, counts, vocab_size))
            for fold in range(n_folds):
                if length:
                    touched[fold][length:] |= inside[fold][:-length]
                own = np.bincount(pair_of[touched[fold][at]], minlength=len(pairs))
                without[fold].append(Level(contexts, pairs, counts - own, vocab_size))
        return cls(whole, vocab_size), [cls(levels, vocab_size) for levels in without]

    def nll(
        self, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]
    ) -> list[NDArray[np.float64]]:
        """Nats of each token of each text, given its prompt and the tokens before it."""
        kept = [prompt[max(0, len(prompt) - self.order + 1) :] for prompt in prompts]
        rows = [[*prompt, *text] for prompt, text in zip(kept, texts, strict=True)]
        if not any(rows):
            return [np.zeros(0) for _ in rows]
        edges = np.cumsum([0, *map(len, rows)])
        tokens = np.concatenate([np.array(row, np.int64) for row in rows])
        nats = -np.log(self._probabilities(tokens, _depth(len(tokens), edges[:-1])))
        return [
            nats[start + len(prompt) : end]
            for start, end, prompt in zip(edges[:-1], edges[1:], kept, strict=True)
        ]

    def probabilities(self, pasts: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """P of every next token (B, V) after each past, of which the last order - 1 tokens are read."""
        previous = np.full((len(pasts), self.order - 1), -1)
        for row, past in enumerate(pasts):
            nearest = list(past)[: -self.order : -1]
            previous[row, : len(nearest)] = nearest
        return self.distributions(previous)

    def distributions(self, previous: Ids) -> NDArray[np.float64]:
        """P of every next token (N, V) after the order - 1 tokens before it.

        Args:
            previous: (N, order - 1) the nearest first, -1 where there is none.
        """
        found = np.full((len(previous), self.vocab_size), 1 / self.vocab_size)
        rows, context = np.arange(len(previous)), np.zeros(len(previous), np.int64)
        for length, level in enumerate(self.levels):
            if length:
                token = previous[rows, length - 1]
                context = _find(level.contexts, context * self.vocab_size + token)
                context[token < 0] = -1
                rows, context = rows[context >= 0], context[context >= 0]
            seen = level.total[context] > 0
            if not seen.all():
                rows, context = rows[seen], context[seen]
            types, first = level.types[context], level.first[context]
            scale = 1 / (level.total[context] + types)
            n_pairs = level.first[context + 1] - first
            owner = np.repeat(np.arange(len(rows)), n_pairs)
            pair = np.arange(len(owner)) + np.repeat(first - np.cumsum(n_pairs) + n_pairs, n_pairs)
            found[rows] *= (types * scale)[:, None]
            found[rows[owner], level.tokens[pair]] += level.counts[pair] * scale[owner]
        return found

    def _probabilities(self, tokens: Ids, depth: Ids) -> NDArray[np.float64]:
        """P of each token (T,) given up to order - 1 tokens before it, `depth` of which are its own."""
        probability = np.full(len(tokens), 1 / self.vocab_size)
        context = np.zeros(len(tokens), np.int64)
        at = np.arange(len(tokens))
        for length, level in enumerate(self.levels):
            if length:
                at = at[depth[at] >= length]
                found = _find(level.contexts, context[at] * self.vocab_size + tokens[at - length])
                at, found = at[found >= 0], found[found >= 0]
                context[at] = found
            at = at[level.total[context[at]] > 0]
            place = _find(level.pairs, context[at] * self.vocab_size + tokens[at])
            count = np.where(place >= 0, level.counts[place], 0)
            total, types = level.total[context[at]], level.types[context[at]]
            probability[at] = (count + types * probability[at]) / (total + types)
        return probability

    def draw(self, past: Ids, rng: np.random.Generator) -> Ids:
        """Draw a token after each past (B, order - 1), which is -1 where there is none.

        P(w | h) is a mixture, so a draw walks down from the longest context: it takes one of that
        context's own continuations with probability N / (N + T), else asks the next shorter one.
        """
        batch = len(past)
        context = np.full((self.order, batch), -1)
        context[0] = 0
        for length in range(1, self.order):
            token, shorter = past[:, -length], context[length - 1]
            known = np.flatnonzero((token >= 0) & (shorter >= 0))
            keys = shorter[known] * self.vocab_size + token[known]
            context[length, known] = _find(self.levels[length].contexts, keys)
        drawn = rng.integers(self.vocab_size, size=batch)
        stays, picks = rng.random((2, self.order, batch))
        waiting = np.ones(batch, bool)
        for length in reversed(range(self.order)):
            level, found = self.levels[length], context[length]
            if not len(level.contexts):  # no document is as long as this context
                continue
            own = level.total[found] / (level.total[found] + level.types[found])
            rows = np.flatnonzero(waiting & (found >= 0) & (stays[length] < own))
            nodes = found[rows]
            ticket = level.before[nodes] + (picks[length, rows] * level.total[nodes]).astype(np.int64)
            drawn[rows] = level.pairs[np.searchsorted(level.ends, ticket, side="right")] % self.vocab_size
            waiting[rows] = False
        return drawn


def _events(
    ids: NDArray[np.integer],
    vocab_size: int,
    order: int,
    starts: NDArray[np.integer] | None = None,
    counted: NDArray[np.bool_] | None = None,
) -> Iterator[tuple[Ids, Ids, Ids]]:
    """For each length of context: contexts (C,) that were seen, and what is counted after so many tokens.

    Yields:
        the contexts' keys, the places (N,) of what is counted, and the key (N,) of each with its context.
    """
    tokens = ids.astype(np.int64)
    depth = _depth(len(tokens), starts)
    if counted is not None:
        depth[~counted] = -1
    context = np.zeros(len(tokens), np.int64)  # (T,) index of each token's context on the current level
    contexts = np.zeros(1, np.int64)
    for length in range(order):
        at = np.flatnonzero(depth >= length)
        if length:
            keys = context[at] * vocab_size + tokens[at - length]
            contexts, context[at] = np.unique(keys, return_inverse=True)
        yield contexts, at, context[at] * vocab_size + tokens[at]


def _depth(n: int, starts: NDArray[np.integer] | None) -> Ids:
    """Tokens of the same document before each of n tokens, (n,)."""
    first = np.zeros(n, np.int64)
    if starts is not None:
        inside = starts[starts < n]  # an empty last document starts at the end
        first[inside] = inside
    return np.arange(n) - np.maximum.accumulate(first)


def _find(table: Ids, keys: Ids) -> Ids:
    """Index of each key in a sorted table, -1 where it is missing."""
    if not len(table):  # no document is as long as this context
        return np.full(len(keys), -1)
    place = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    return np.where(table[place] == keys, place, -1)
