"""The predictor's own randomness: Gaussian noise that its queries carry, and several predictions at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jepalm.model.layers import EMBEDDING_STD, Layout


@dataclass(frozen=True)
class Noise:
    """What is drawn for a prediction.

    Attributes:
        places: (..., Z) for each target embedding, packed or padded as its layout says.
        text: (B, Z) for each text: what all its embeddings share.
    """

    places: Tensor
    text: Tensor


def draw_noise(
    layout: Layout, width: int, scale: float = 1.0, generator: torch.Generator | None = None
) -> Noise:
    """Draw standard normal noise of a width, times the scale, for the embeddings that are laid out so.

    The draws are those of the padded form, so that packing changes none.
    """
    batch, longest = layout.mask.shape
    device = layout.mask.device
    places = torch.randn(batch, longest, width, generator=generator, device=device)  # (B, T, Z)
    text = torch.randn(batch, width, generator=generator, device=device)  # (B, Z)
    return Noise(layout.pack(scale * places), scale * text)


class NoisyQueries(nn.Module):
    """Two linear maps without bias, of a position's noise and of its text's: noise of 0 changes no query.

    CALM (arXiv 2510.27688) gives the one vector that it writes at a time its noise; of many at once there is
    also what they share.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.places = nn.Linear(width, dim, bias=False)
        self.text = nn.Linear(width, dim, bias=False)

    def reset(self) -> None:
        """Let noise of deviation 1 be as large as the queries: then neither a query nor its noise is lost."""
        for part in (self.places, self.text):
            nn.init.normal_(part.weight, std=EMBEDDING_STD / math.sqrt(2 * self.width))

    def forward(self, noise: Noise, layout: Layout) -> Tensor:
        """What the queries of a target carry, (..., D) as its layout packs or pads."""
        places, text = (x.to(self.text.weight.dtype) for x in (noise.places, noise.text))
        return self.places(places) + layout.spread(self.text(text))
