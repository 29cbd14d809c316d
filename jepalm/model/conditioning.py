"""What a prediction is conditioned on beside its source: action, unmasked tokens, noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jepalm.model.layout import Layout

ActionView = tuple[Tensor, Layout]
"""Embeddings (..., D) of actions, packed or padded as their layout says."""


@dataclass(frozen=True)
class Known:
    """The tokens of a target that are already decided.

    Attributes:
        ids: (B, T) tokens; what stands at hidden positions is not read.
        unmasked: (B, T) bool, true where the token is decided.
    """

    ids: Tensor
    unmasked: Tensor


@dataclass(frozen=True)
class Conditioning:
    """What a prediction is conditioned on; nothing by default.

    Attributes:
        action: of each text, for a model that is conditioned on actions.
        known: unmasked tokens, for a predictor that reads such.
        noise: Gumbel noise (B, T, V), for a predictor that reads it; None is noise of 0.
    """

    action: ActionView | None = None
    known: Known | None = None
    noise: Tensor | None = None


class UnmaskedTokens(nn.Module):
    """A vector for each decided token, and a mark that tells its position from a hidden one.

    Hidden positions get nothing: with none unmasked the queries are those of a one-shot predictor.
    """

    def __init__(self, dim: int, vocab_size: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, dim)
        self.mark = nn.Parameter(torch.empty(1, dim))

    def forward(self, known: Known, layout: Layout) -> Tensor:
        """What is added to the queries of a target, (..., D) as its layout packs or pads."""
        vectors = self.tokens(layout.pack(known.ids)) + self.mark  # (..., D)
        return vectors * layout.pack(known.unmasked)[..., None]
