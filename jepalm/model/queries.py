"""What the predictor's queries carry beside their place: tokens of the target that are already decided."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jepalm.model.layout import Layout


@dataclass(frozen=True)
class Known:
    """What is known of a target before it is predicted.

    Attributes:
        ids: (B, T) tokens; what stands at hidden positions is not read.
        unmasked: (B, T) bool, true where the token is decided.
    """

    ids: Tensor
    unmasked: Tensor


class UnmaskedTokens(nn.Module):
    """A vector for each decided token, and a mark that tells its position from a hidden one.

    Hidden positions carry nothing: with none unmasked the queries are those of a one-shot predictor.
    """

    def __init__(self, dim: int, vocab_size: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, dim)
        self.mark = nn.Parameter(torch.empty(1, dim))

    def forward(self, known: Known, layout: Layout) -> Tensor:
        """What the queries of a target carry, (..., D) as its layout packs or pads."""
        carried = self.tokens(layout.pack(known.ids)) + self.mark  # (..., D)
        return carried * layout.pack(known.unmasked)[..., None]
