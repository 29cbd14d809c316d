"""Deep supervision of the predictor: each layer predicts the tokens, and the next is fed the prediction.

The prediction for position i - 1 is fed to position i of the next layer, so a layer can settle about one
position more than the layer before. With Gumbel noise g a text is a function of its source and its noise: the
token at a position is the argmax of log p + g under a causal model (Parallel Token Prediction, arXiv
2512.21323; Gumbel distillation, arXiv 2603.22216).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepalm.model.conditioning import Known
from jepalm.model.layout import Layout

TOKEN_STD = 0.5
"""Deviation that token vectors start with: smaller ones are lost beside normalised embeddings."""
NOISE_STD = 0.01
"""The same of the map from noise: small, so that it does not disturb the first logits."""


class IntermediateLogits(nn.Module):
    """A small head that all layers share, and the vectors through which its logits are fed back.

    Args:
        dim: width of the predictor, D.
        source_dim: width of the source embeddings.
        target_dim: width of the target embeddings, D'.
        vocab_size: tokens, V.
        noisy: whether Gumbel noise is added to the head's logits, and a map of it to the queries. The sum is
            scaled by a sharpness that the state of the position decides.
    """

    def __init__(self, dim: int, source_dim: int, target_dim: int, vocab_size: int, *, noisy: bool) -> None:
        super().__init__()
        self.from_source = nn.Linear(source_dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim, bias=False)
        self.head = nn.Linear(dim, vocab_size, bias=False)
        self.token_vectors = nn.Linear(vocab_size, dim, bias=False)
        self.to_embedding = nn.Linear(vocab_size, target_dim, bias=False)
        self.noise = nn.Linear(2 * vocab_size, dim, bias=False) if noisy else None
        self.sharpness = nn.Linear(dim, 1) if noisy else None

    def reset(self) -> None:
        """Begin with the last source embedding as it is, embeddings of 0, and a sharpness of 1."""
        if self.from_source.in_features == self.from_source.out_features:
            nn.init.eye_(self.from_source.weight)
        nn.init.normal_(self.token_vectors.weight, std=TOKEN_STD)
        nn.init.zeros_(self.to_embedding.weight)
        if self.noise is not None and self.sharpness is not None:
            nn.init.normal_(self.noise.weight, std=NOISE_STD)
            nn.init.zeros_(self.sharpness.weight)
            nn.init.constant_(self.sharpness.bias, math.log(math.e - 1))  # softplus of it is 1

    @torch.no_grad()
    def start_from(self, tokens: Tensor) -> None:
        """Take another model's table of tokens (V, D) for the head and the token vectors."""
        self.head.weight.copy_(tokens)
        self.token_vectors.weight.copy_(tokens.T * (TOKEN_STD / tokens.std()))

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """States (..., D) under Gumbel noise (..., V) to logits (..., V)."""
        state = self.norm(x)
        logits: Tensor = self.head(state)
        if noise is None:
            return logits
        assert self.sharpness is not None
        return F.softplus(self.sharpness(state)) * (logits + noise)

    def pack_noise(self, noise: Tensor | None, layout: Layout) -> Tensor:
        """Gumbel noise (B, T, V) as the layout packs or pads it, (..., V); 0 where none is given."""
        if noise is None:
            noise = self.head.weight.new_zeros(*layout.mask.shape, self.head.out_features)  # (B, T, V)
        return layout.pack(noise)

    def noise_vectors(self, noise: Tensor) -> Tensor:
        """What is added to the queries of positions with noise (..., V): (..., D)."""
        assert self.noise is not None
        vectors: Tensor = self.noise(torch.cat((noise / 2, noise.softmax(-1)), -1))
        return vectors

    def start(self, source: Tensor, layout: Layout) -> Tensor:
        """What position 0 is fed before every layer: the source's last embedding, (..., D') to (B, 1, D)."""
        rows = torch.arange(layout.mask.shape[0], device=source.device)
        last = layout.pad(source)[rows, layout.mask.sum(1) - 1]  # (B, D')
        return self.from_source(last)[:, None]

    def first_feedback(self, start: Tensor, layout: Layout) -> Tensor:
        """What the positions are fed before there are logits, (..., D): 0 but for position 0."""
        return layout.pack(F.pad(start, (0, 0, 0, layout.mask.shape[1] - 1)))

    def feedback(self, probabilities: Tensor, start: Tensor, layout: Layout) -> Tensor:
        """What the positions are fed, (..., D): the expected token vector of the position before each."""
        vectors = layout.pad(self.token_vectors(probabilities))[:, :-1]  # (B, T - 1, D)
        return layout.pack(torch.cat((start.to(vectors.dtype), vectors), 1))

    @staticmethod
    def with_known(probabilities: Tensor, known: Known, layout: Layout) -> Tensor:
        """Probabilities (..., V), at unmasked positions those of the right token: 1, and 0 for others."""
        right = F.one_hot(layout.pack(known.ids), probabilities.shape[-1]).to(probabilities.dtype)  # (..., V)
        return torch.where(layout.pack(known.unmasked)[..., None], right, probabilities)
