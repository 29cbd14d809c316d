"""The n-gram as a drafter: what verification gains from the cheapest model that knows the noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from jepalm.data.ngram import NGram
from jepalm.data.tokenizer import SPECIALS
from jepalm.generation.sampling import Sampling

LONGEST = 8
"""Tokens of a draft: each is one look-up, and few drafts are right beyond."""


class NGramDrafter:
    """Drafts token by token from counts, each with the noise of its position."""

    nfe = 0

    def __init__(self, ngram: NGram, longest: int = LONGEST) -> None:
        self.ngram, self._longest = ngram, longest

    @property
    def longest(self) -> int:
        """Tokens of a draft."""
        return self._longest

    def draft(
        self, texts: Sequence[Sequence[int]], noise: Tensor | None, sampling: Sampling
    ) -> list[list[int]]:
        """Propose the next tokens of each text; see `verify.Drafter`."""
        reach = self.ngram.order - 1
        rows = [list(text)[max(0, len(text) - reach) :] for text in texts]
        starts = [len(row) for row in rows]
        for place in range(self.longest):
            logits = torch.from_numpy(
                np.log(self.ngram.probabilities([row[-reach:] for row in rows]))
            ).float()
            logits[:, : len(SPECIALS)] = float("-inf")
            drawn = None if noise is None else noise[:, place].cpu()
            for row, token in zip(rows, sampling.choose(logits, drawn).tolist(), strict=True):
                row.append(token)
        return [row[start:] for row, start in zip(rows, starts, strict=True)]
