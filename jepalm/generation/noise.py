"""Gumbel noise that depends on text and position alone, so that two ways of writing a text can share it.

A token that is the argmax of log p + g, with g from the standard Gumbel distribution, one number a token
of the vocabulary, is a sample of p (Gumbel-max; Maddison et al. 2014, arXiv 1411.0030, section 2). With the
noise fixed, a text is a function of its prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

AHEAD = 64
"""Positions that are drawn at once; the numbers do not depend on it."""
DRAWS_A_BLOCK = 4
"""Numbers that the generator makes of one value of its counter."""


class GumbelNoise:
    """The noise of many texts: a pure function of seed, number of the text, position and token.

    Positions count written tokens from 0. The numbers are those of the counter-based generator Philox 4x64,
    one key a text, so any part of a text's noise is made without what stands before it.

    Args:
        seed: not negative.
        vocab_size: numbers a position, V.
        device: of the noise that `at` returns.
        first: number of the first text, where only some of many are written.
    """

    def __init__(
        self, seed: int, vocab_size: int, device: torch.device | str = "cpu", *, first: int = 0
    ) -> None:
        self.seed, self.vocab_size, self.device, self.first = seed, vocab_size, device, first
        self._drawn: dict[int, tuple[int, NDArray[np.float32]]] = {}

    def at(self, texts: Sequence[int], starts: Sequence[int], n: int) -> Tensor:
        """Noise of `n` positions of some texts.

        Args:
            texts: B numbers of texts.
            starts: the first position of each.
            n: how many positions, T.

        Returns:
            (B, T, V) float32.
        """
        rows = [self._part(text, start, n) for text, start in zip(texts, starts, strict=True)]
        return torch.from_numpy(np.stack(rows)).to(self.device)

    def _part(self, text: int, start: int, n: int) -> NDArray[np.float32]:
        """(T, V) of one text, from what was drawn ahead where that reaches."""
        begin, known = self._drawn.get(text, (0, np.empty((0, self.vocab_size), np.float32)))
        if start < begin or start + n > begin + len(known):
            begin, known = start, gumbel(self.seed, self.first + text, start, max(n, AHEAD), self.vocab_size)
            self._drawn[text] = begin, known
        return known[start - begin : start - begin + n]


def gumbel(seed: int, text: int, start: int, n: int, vocab_size: int) -> NDArray[np.float32]:
    """Standard Gumbel noise (T, V) of positions `start` to `start + n` of a text."""
    key = np.random.SeedSequence([seed, text]).generate_state(2, np.uint64)
    blocks = -(-vocab_size // DRAWS_A_BLOCK)  # a position begins with a value of the counter of its own
    generator = np.random.Philox(key=key).advance(start * blocks)
    bits = generator.random_raw(n * blocks * DRAWS_A_BLOCK).reshape(n, -1)[:, :vocab_size]
    uniform = ((bits >> np.uint64(12)) + 0.5) * 2.0**-52  # inside (0, 1), both ends out
    return (-np.log(-np.log(uniform))).astype(np.float32)
