"""A Witten-Bell n-gram model of the training text: the floor a generator has to beat, and a cheap scorer.

Witten and Bell 1991, method C, interpolated (Chen and Goodman 1998, section 2.5): with c(h, w) the count of
token w after context h, N(h) their sum and T(h) the number of distinct ones,

    P(w | h) = (c(h, w) + T(h) P(w | h')) / (N(h) + T(h)),

where h' lacks the oldest token of h. Below the empty context stands the uniform distribution, so every
token has a finite NLL. A context that was never seen says what the next shorter one says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jepalm.generation.writer import GeneratedText, Prompt

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class _Level:
    """All contexts of one length.

    Attributes:
        contexts: (C,) sorted keys, `shorter context * vocab_size + the token before it`.
        pairs: (P,) sorted keys, `context * vocab_size + next token`.
        counts: (P,) how often each pair was seen.
        ends: (P,) running sum of the counts.
        before: (C,) sum of the counts of all earlier contexts.
        total: (C,) N(h).
        types: (C,) T(h).
    """

    contexts: Ids
    pairs: Ids
    counts: Ids
    ends: Ids
    before: Ids
    total: Ids
    types: Ids


class NGram:
    """A model that has read a text: scores and samples, both exact and reproducible."""

    def __init__(self, levels: list[_Level], vocab_size: int) -> None:
        self._levels, self.vocab_size = levels, vocab_size

    @property
    def order(self) -> int:
        """Tokens of the longest context, and one."""
        return len(self._levels)

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
    ) -> NGram:
        """Count a text.

        Args:
            ids: (T,) token ids; at least one.
            vocab_size: every id is below it.
            order: longest context and one; 5 counts up to four tokens of context.
            starts: places where a new document begins, which no context reaches across; the first
                token alone when empty.
        """
        tokens = ids.astype(np.int64)
        depth = _depth(len(tokens), starts)
        context = np.zeros(len(tokens), np.int64)  # (T,) index of each token's context on the current level
        keys, levels = np.zeros(1, np.int64), []
        for length in range(order):
            at = np.flatnonzero(depth >= length)
            if length:
                keys, context[at] = np.unique(
                    context[at] * vocab_size + tokens[at - length], return_inverse=True
                )
            pairs, counts = np.unique(context[at] * vocab_size + tokens[at], return_counts=True)
            owner = pairs // vocab_size
            total = np.bincount(owner, counts, len(keys)).astype(np.int64)
            types = np.bincount(owner, minlength=len(keys))
            ends = np.cumsum(counts)
            levels.append(_Level(keys, pairs, counts, ends, np.cumsum(total) - total, total, types))
        return cls(levels, vocab_size)

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

    def write(
        self, prompts: Sequence[Prompt], *, seed: int, lengths: Sequence[int] | None = None
    ) -> GeneratedText:
        """Continue each prompt by as many tokens as asked; its NFE are look-ups, one a token. See `Writer`.

        P(w | h) is a mixture, so a draw walks down from the longest context: it takes one of that
        context's own continuations with probability N / (N + T), else asks the next shorter one.
        """
        assert lengths is not None, "counts do not say where a text ends"
        rng = np.random.default_rng(seed)
        reach, steps = self.order - 1, max(lengths, default=0)
        written = np.full((len(prompts), reach + steps), -1, np.int64)  # (B, context + T), -1 before a prompt
        for row, prompt in enumerate(prompts):
            tail = list(prompt.source[max(0, len(prompt.source) - reach) :])
            written[row, reach - len(tail) : reach] = tail
        for step in range(reach, reach + steps):
            written[:, step] = self._draw(written[:, step - reach : step], rng)
        rows = zip(written[:, reach:].tolist(), lengths, strict=True)
        return GeneratedText([row[:length] for row, length in rows], list(lengths), steps)

    def probabilities(self, pasts: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """P of every next token (B, V) after each past, of which the last order - 1 tokens are read."""
        found = np.full((len(pasts), self.vocab_size), 1 / self.vocab_size)
        for row, past in enumerate(pasts):
            context = 0
            for length, level in enumerate(self._levels):
                if length:
                    if length > len(past):
                        break
                    key = context * self.vocab_size + past[-length]
                    context = int(_find(level.contexts, np.array([key]))[0])
                    if context < 0:
                        break
                edges = np.array([context, context + 1]) * self.vocab_size
                first, last = np.searchsorted(level.pairs, edges)
                types, total = level.types[context], level.total[context]
                found[row] *= types / (total + types)
                found[row, level.pairs[first:last] % self.vocab_size] += level.counts[first:last] / (
                    total + types
                )
        return found

    def _probabilities(self, tokens: Ids, depth: Ids) -> NDArray[np.float64]:
        """P of each token (T,) given up to order - 1 tokens before it, `depth` of which are its own."""
        probability = np.full(len(tokens), 1 / self.vocab_size)
        context = np.zeros(len(tokens), np.int64)
        at = np.arange(len(tokens))
        for length, level in enumerate(self._levels):
            if length:
                at = at[depth[at] >= length]
                found = _find(level.contexts, context[at] * self.vocab_size + tokens[at - length])
                at, found = at[found >= 0], found[found >= 0]
                context[at] = found
            place = _find(level.pairs, context[at] * self.vocab_size + tokens[at])
            count = np.where(place >= 0, level.counts[place], 0)
            total, types = level.total[context[at]], level.types[context[at]]
            probability[at] = (count + types * probability[at]) / (total + types)
        return probability

    def _draw(self, past: Ids, rng: np.random.Generator) -> Ids:
        """One token after each past (B, order - 1), which is -1 where there is none."""
        batch = len(past)
        context = np.full((self.order, batch), -1)
        context[0] = 0
        for length in range(1, self.order):
            token, shorter = past[:, -length], context[length - 1]
            known = np.flatnonzero((token >= 0) & (shorter >= 0))
            keys = shorter[known] * self.vocab_size + token[known]
            context[length, known] = _find(self._levels[length].contexts, keys)
        drawn = rng.integers(self.vocab_size, size=batch)
        stays, picks = rng.random((2, self.order, batch))
        waiting = np.ones(batch, bool)
        for length in reversed(range(self.order)):
            level, found = self._levels[length], context[length]
            if not len(level.contexts):  # no document is as long as this context
                continue
            own = level.total[found] / (level.total[found] + level.types[found])
            rows = np.flatnonzero(waiting & (found >= 0) & (stays[length] < own))
            nodes = found[rows]
            ticket = level.before[nodes] + (picks[length, rows] * level.total[nodes]).astype(np.int64)
            drawn[rows] = level.pairs[np.searchsorted(level.ends, ticket, side="right")] % self.vocab_size
            waiting[rows] = False
        return drawn


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
