"""Token shift: the embeddings of the tokens before a token, added to its own without attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TOKEN_SHIFT = 0.5
"""Weight that the embeddings of preceding tokens start with."""


class TokenShift(nn.Module):
    """Adds to each embedding those of the tokens before it, by a learned weight a place and dimension.

    What a name belongs to, and what belongs to it, is then known without attention, as by a short causal
    depthwise convolution.
    """

    def __init__(self, dim: int, n_tokens: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_tokens, dim))

    def reset(self) -> None:
        """Begin with the same weight everywhere."""
        nn.init.constant_(self.weight, TOKEN_SHIFT)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D); before the first token there is nothing."""
        total = x
        for back, weight in enumerate(self.weight, 1):
            total = total + weight * F.pad(x, (0, 0, back, 0))[:, : x.shape[1]]
        return total
