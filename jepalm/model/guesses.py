"""What each layer of the predictor makes of the text so far, told to the next position before the next layer.

With Gumbel noise a text is a function of its source and its noise: the token at a position is the argmax of
log p + g under a causal model (Parallel Token Prediction, arXiv 2512.21323; Gumbel distillation,
arXiv 2603.22216). What is likely at a position depends on the token before it, so a layer can settle about
one position more than the layer before.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepalm.model.layers import Layout
from jepalm.model.queries import Known

TOKEN_STD = 0.5
"""Deviation of token vectors at first: beside normalised embeddings smaller ones are not seen."""
NOISE_STD = 0.05
"""The same of the map from noise, which sums over the vocabulary."""


class Guesses(nn.Module):
    """A small head that all layers share, and the vectors by which its guesses are told.

    Args:
        dim: width of the predictor, D.
        source_dim: width of the source embeddings.
        vocab_size: tokens, V.
        noisy: whether Gumbel noise is added to the head's logits, times a sharpness that the state of the
            position decides, and told to the queries.
    """

    def __init__(self, dim: int, source_dim: int, vocab_size: int, *, noisy: bool) -> None:
        super().__init__()
        self.begin = nn.Linear(source_dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim, bias=False)
        self.head = nn.Linear(dim, vocab_size, bias=False)
        self.before = nn.Linear(vocab_size, dim, bias=False)
        self.own = nn.Linear(vocab_size, dim, bias=False)
        self.noise = nn.Linear(2 * vocab_size, dim, bias=False) if noisy else None
        self.sharpness = nn.Linear(dim, 1) if noisy else None

    def reset(self) -> None:
        """Begin with the last source embedding as it is, and with a sharpness of 1."""
        if self.begin.in_features == self.begin.out_features:
            nn.init.eye_(self.begin.weight)
        for told in (self.before, self.own):
            nn.init.normal_(told.weight, std=TOKEN_STD)
        if self.noise is not None and self.sharpness is not None:
            nn.init.normal_(self.noise.weight, std=NOISE_STD)
            nn.init.zeros_(self.sharpness.weight)
            nn.init.constant_(self.sharpness.bias, math.log(math.e - 1))  # softplus of it is 1

    @torch.no_grad()
    def start_from(self, tokens: Tensor) -> None:
        """Guess and tell by another model's table of tokens (V, D), which must be as wide as this."""
        self.head.weight.copy_(tokens)
        self.before.weight.copy_(tokens.T)

    def start(self, layout: Layout, source: Tensor, source_layout: Layout, gumbel: Tensor | None) -> Tensor:
        """What queries carry of the source's last embedding and of the noise (..., V), (..., D)."""
        rows = torch.arange(len(source_layout.mask), device=source.device)
        last = source_layout.pad(source)[rows, source_layout.mask.sum(1) - 1]  # (B, source dim)
        x = layout.spread(self.begin(last))  # (..., D)
        if gumbel is None:
            return x
        assert self.noise is not None
        return x + self.noise(torch.cat((gumbel / 2, gumbel.softmax(-1)), -1))

    def forward(self, x: Tensor, gumbel: Tensor | None) -> Tensor:
        """The guess of states (..., D) under noise (..., V): logits (..., V)."""
        state = self.norm(x)
        logits: Tensor = self.head(state)
        if gumbel is None:
            return logits
        assert self.sharpness is not None
        return logits + F.softplus(self.sharpness(state)) * gumbel

    def chances(self, guess: Tensor, layout: Layout, known: Known | None) -> Tensor:
        """Logits (..., V) to chances (..., V); those of a revealed token are 1 and 0."""
        chances = guess.softmax(-1)
        if known is None:
            return chances
        right = F.one_hot(layout.pack(known.ids), guess.shape[-1]).to(chances.dtype)  # (..., V)
        return torch.where(layout.pack(known.revealed)[..., None], right, chances)

    def told(self, chances: Tensor, layout: Layout) -> Tensor:
        """What each position hears of the one before it, (..., D); the first hears nothing."""
        vectors = layout.pad(self.before(chances))  # (B, T, D)
        return layout.pack(F.pad(vectors, (0, 0, 1, -1)))
