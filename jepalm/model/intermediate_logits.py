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

from jepalm.model.layout import Layout
from jepalm.model.queries import Known

TOKEN_STD = 0.5
"""Deviation of token vectors at first: beside normalised embeddings smaller ones are not seen."""
NOISE_STD = 0.01
"""The same of the map from noise: small, so that the first guess is undisturbed by it."""


class IntermediateLogits(nn.Module):
    """A small head that all layers share, and the vectors by which its intermediate logits are told.

    Args:
        dim: width of the predictor, D.
        source_dim: width of the source embeddings.
        target_dim: width of the target embeddings, D'.
        vocab_size: tokens, V.
        noisy: whether Gumbel noise is added to the head's logits, their sum times a sharpness that the state
            of the position decides, and told to the queries.
    """

    def __init__(self, dim: int, source_dim: int, target_dim: int, vocab_size: int, *, noisy: bool) -> None:
        super().__init__()
        self.begin = nn.Linear(source_dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim, bias=False)
        self.head = nn.Linear(dim, vocab_size, bias=False)
        self.before = nn.Linear(vocab_size, dim, bias=False)
        self.own = nn.Linear(vocab_size, target_dim, bias=False)
        self.noise = nn.Linear(2 * vocab_size, dim, bias=False) if noisy else None
        self.sharpness = nn.Linear(dim, 1) if noisy else None

    def reset(self) -> None:
        """Begin with the last source embedding as it is, embeddings of 0, and a sharpness of 1."""
        if self.begin.in_features == self.begin.out_features:
            nn.init.eye_(self.begin.weight)
        nn.init.normal_(self.before.weight, std=TOKEN_STD)
        nn.init.zeros_(self.own.weight)
        if self.noise is not None and self.sharpness is not None:
            nn.init.normal_(self.noise.weight, std=NOISE_STD)
            nn.init.zeros_(self.sharpness.weight)
            nn.init.constant_(self.sharpness.bias, math.log(math.e - 1))  # softplus of it is 1

    @torch.no_grad()
    def start_from(self, tokens: Tensor) -> None:
        """Guess and tell by another model's table of tokens (V, D), which must be as wide as this."""
        self.head.weight.copy_(tokens)
        self.before.weight.copy_(tokens.T * (TOKEN_STD / tokens.std()))

    def packed(self, noise: Tensor | None, layout: Layout) -> Tensor | None:
        """Gumbel noise as the layout packs or pads it, (..., V).

        0 where none is given; None where none is read.
        """
        if self.noise is None:
            return None
        if noise is None:
            noise = self.head.weight.new_zeros(*layout.mask.shape, self.head.out_features)  # (B, T, V)
        return layout.pack(noise)

    def carried(self, gumbel: Tensor) -> Tensor:
        """What queries carry of the noise at their places, (..., V) to (..., D)."""
        assert self.noise is not None
        found: Tensor = self.noise(torch.cat((gumbel / 2, gumbel.softmax(-1)), -1))
        return found

    def first(self, source: Tensor, layout: Layout) -> Tensor:
        """What the first position hears: the source's last embedding, (..., D') to (B, 1, D)."""
        rows = torch.arange(len(layout.mask), device=source.device)
        last = layout.pad(source)[rows, layout.mask.sum(1) - 1]  # (B, D')
        return self.begin(last)[:, None]

    def forward(self, x: Tensor, gumbel: Tensor | None) -> Tensor:
        """The guess of states (..., D) under noise (..., V): logits (..., V)."""
        state = self.norm(x)
        logits: Tensor = self.head(state)
        if gumbel is None:
            return logits
        assert self.sharpness is not None
        return F.softplus(self.sharpness(state)) * (logits + gumbel)

    def probabilities(self, intermediate: Tensor, layout: Layout, known: Known | None) -> Tensor:
        """Logits (..., V) to probabilities (..., V); those of a unmasked token are 1 and 0."""
        probabilities = intermediate.softmax(-1)
        if known is None:
            return probabilities
        right = F.one_hot(layout.pack(known.ids), intermediate.shape[-1]).to(probabilities.dtype)  # (..., V)
        return torch.where(layout.pack(known.unmasked)[..., None], right, probabilities)

    def conditioning(self, probabilities: Tensor, first: Tensor, layout: Layout) -> Tensor:
        """The prediction for position i - 1 at position i, (..., D): its expected token vector."""
        vectors = layout.pad(self.before(probabilities))[:, :-1]  # (B, T - 1, D)
        return layout.pack(torch.cat((first.to(vectors.dtype), vectors), 1))

    def nothing(self, first: Tensor, layout: Layout) -> Tensor:
        """What is heard before the first guess, (..., D)."""
        return layout.pack(F.pad(first, (0, 0, 0, layout.mask.shape[1] - 1)))
