"""Semantic Tube Prediction: the states of a text move in a straight line (arXiv 2602.22617)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from jepalm.model.layout import at_least_float32


def tube_cosine(hidden: Tensor, triples: Tensor) -> Tensor:
    """Cosine of the steps h_r - h_s and h_t - h_r between three states of each text, (B,).

    Args:
        hidden: (B, T, D) states of the last layer.
        triples: (B, 3) places s < r < t.
    """
    index = triples[..., None].expand(-1, -1, hidden.shape[-1])  # (B, 3, D)
    s, r, t = at_least_float32(hidden.gather(1, index)).unbind(1)  # three of (B, D)
    return F.cosine_similarity(t - r, r - s, dim=-1)


def draw_triples(lengths: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Three places s < r < t of each text, every set of three as likely, (B,) to (B, 3).

    Args:
        lengths: tokens of each text; of those shorter than 3 the places mean nothing.
        generator: of the lengths' device; torch's own when None.
    """
    draws = torch.rand(len(lengths), 3, generator=generator, device=lengths.device)
    sizes = lengths[:, None] - torch.arange(3, device=lengths.device)  # (B, 3)
    a, b, c = (draws * sizes.clamp(min=1)).long().unbind(1)  # places among those not yet taken
    b = b + (b >= a)
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    c = c + (c >= low)
    c = c + (c >= high)
    places = torch.stack((a, b, c), 1).sort(1).values  # (B, 3)
    return places.clamp(max=(lengths - 1)[:, None])
