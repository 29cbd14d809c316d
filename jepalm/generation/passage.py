"""What a one-shot model is asked to write, and what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jepalm.data.batches import Tokens
from jepalm.model.conditioning import ActionView
from jepalm.model.layout import Layout
from jepalm.objective.jepalm import JepalmObjective


@dataclass(frozen=True)
class Passage:
    """Generated passages of a batch.

    Attributes:
        ids: (B, T) tokens, 0 beyond each text's length.
        lengths: (B,) positions of each text.
        embeddings: (B, T', D') predicted embeddings, 0 beyond each text's length.
        log_probs: (B, T) of each token under the decoder when it was written, 0 beyond each text's length.
        tokens_per_embedding: how many tokens stand in each.
        nfe: forward passes of predictor and decoder.
    """

    ids: Tensor
    lengths: Tensor
    embeddings: Tensor
    log_probs: Tensor
    tokens_per_embedding: int = 1
    nfe: int = 1

    @property
    def confidence(self) -> Tensor:
        """Mean log-probability of each text's tokens (B,)."""
        return self.log_probs.sum(1) / self.lengths

    def rows(self) -> list[list[int]]:
        """Token ids of each text."""
        return [row[:length] for row, length in zip(self.ids.tolist(), self.lengths.tolist(), strict=True)]


@dataclass(frozen=True)
class PassageRequest:
    """Passages that are to be written.

    Attributes:
        embeddings: source embeddings (..., D).
        layout: positions of the source.
        target_layout: positions to write.
        excluded: tokens that are no text.
        temperature: 0 takes the most likely token of each position; above, tokens are drawn, or in place of
            them the noise of a predictor that takes some, times the temperature.
        generator: draws the tokens or the noise; torch's own when None.
        action: embeddings of the actions, for a model that is conditioned on them.
        noise: (B, T, V) Gumbel noise in place of draws, scaled by the temperature.
        source: token ids of the source, for a decoder that reads tokens.
    """

    embeddings: Tensor
    layout: Layout
    target_layout: Layout
    excluded: Sequence[int]
    temperature: float = 0.0
    generator: torch.Generator | None = None
    action: ActionView | None = None
    noise: Tensor | None = None
    source: Tokens | None = None


Method = Callable[[JepalmObjective, PassageRequest], Passage]
"""How the passages are written: `write_at_once`, a `Refining`, or `LeftToRight`."""
