"""Targets: which encoder makes the embeddings that the predictor must match, and how they are normalised."""

from __future__ import annotations

import copy
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepalm.model.causal import CausalModel
from jepalm.model.encoder import TextEncoder
from jepalm.model.latents import Posterior
from jepalm.model.layout import Layout, at_least_float32

NORM_EPS = 1e-5


class Average(nn.Module):
    """A module whose weights follow those of a trained one, as an exponential moving average.

    No optimizer moves it and no gradient flows through it. It is saved with the weights, and it is
    always in evaluation mode.
    """

    encoder: nn.Module

    def __init__(self, trained: nn.Module) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(trained).requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever the objective around does."""
        super().train(False)
        return self

    @torch.no_grad()
    def follow(self, trained: nn.Module, momentum: float) -> None:
        """Move towards the trained one: theta' <- momentum * theta' + (1 - momentum) * theta."""
        for own, other in zip(self.encoder.parameters(), trained.parameters(), strict=True):
            own.lerp_(other, 1 - momentum)


class TargetEncoder(Average):
    """The average of the trained encoder, as I-JEPA has it (arXiv 2301.08243, section 3)."""

    encoder: TextEncoder

    @torch.no_grad()
    def forward(self, ids: Tensor, layout: Layout) -> Posterior:
        """(B, T) token ids to where the target embeddings lie."""
        return self.encoder.posterior(ids, layout)


class TargetLM(Average):
    """The average of a causal model, which embeds the predicted view."""

    encoder: CausalModel

    @torch.no_grad()
    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) token ids to (B, T, D) states."""
        return self.encoder.hidden(ids)


def target_momentum(step: int, steps: int, start: float) -> float:
    """Momentum of the target encoder after step `step` (counted from 0) of a run of `steps`.

    From `start` in a straight line to 1, which the step after the last would have (I-JEPA,
    arXiv 2301.08243, appendix A.1: 0.996 to 1).
    """
    return start + (1 - start) * min(1.0, step / steps)


def normalised(x: Tensor, layout: Layout, kind: str) -> Tensor:
    """Normalise embeddings (..., D) without learned parameters (data2vec, arXiv 2202.03555, section 3.3).

    Args:
        x: embeddings, packed or padded as the layout says.
        layout: which positions hold text.
        kind: "none"; "layernorm", each position over its dimensions; or "instance", each dimension over
            the positions of its text, which leaves nothing of a text of one position.
    """
    if kind == "none":
        return x
    x = at_least_float32(x)
    if kind == "layernorm":
        return F.layer_norm(x, x.shape[-1:])
    padded = layout.pad(x)  # (B, T, D)
    centred = padded - layout.mean(x)[:, None]  # (B, T, D)
    held = layout.mask[..., None].to(x.dtype)  # (B, T, 1)
    variance = (centred.square() * held).sum(1, keepdim=True) / held.sum(1, keepdim=True)  # (B, 1, D)
    return layout.pack(centred * torch.rsqrt(variance + NORM_EPS))
