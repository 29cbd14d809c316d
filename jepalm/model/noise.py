"""The predictor's own randomness: with it one source has many predictions, each in one pass.

Gaussian noise is carried by the queries. What it means the predictor decides, taught by a score of several
predictions at once. Gumbel noise is a number for each token at each position: a causal model decides which
text it says (`objective/coupling.py`), and the intermediate logits read it (`intermediate logits`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jepalm.model.layers import EMBEDDING_STD
from jepalm.model.layout import Layout


@dataclass(frozen=True)
class GaussianNoise:
    """What is drawn for a prediction by a predictor that takes Gaussian noise.

    Attributes:
        places: (..., Z) for each target embedding, packed or padded as its layout says.
        text: (B, Z) for each text: what all its embeddings share.
    """

    places: Tensor
    text: Tensor


PredictorNoise = GaussianNoise | Tensor
"""Of one kind or the other; a tensor (B, T, V) is Gumbel noise."""

LEAST = 1e-10
"""Least draw of an exponential: losers stay below the winner by more than float64 rounds off."""


def draw_gaussian(
    layout: Layout, width: int, scale: float = 1.0, generator: torch.Generator | None = None
) -> GaussianNoise:
    """Draw standard normal noise of a width, times the scale, for the embeddings that are laid out so.

    The draws are those of the padded form, so that packing changes none.
    """
    batch, longest = layout.mask.shape
    device = layout.mask.device
    places = torch.randn(batch, longest, width, generator=generator, device=device)  # (B, T, Z)
    text = torch.randn(batch, width, generator=generator, device=device)  # (B, Z)
    return GaussianNoise(layout.pack(scale * places), scale * text)


def draw_gumbel(
    shape: tuple[int, ...], device: torch.device | str = "cpu", generator: torch.Generator | None = None
) -> Tensor:
    """Draw standard Gumbel noise of a shape, float32."""
    return -draw_exponential(shape, device, generator).log().float()


def draw_exponential(
    shape: tuple[int, ...], device: torch.device | str = "cpu", generator: torch.Generator | None = None
) -> Tensor:
    """Draw from the standard exponential distribution, in the finest precision, `LEAST` at least."""
    drawn = torch.empty(shape, dtype=finest(device), device=device)
    return drawn.exponential_(generator=generator).clamp(min=LEAST)


def finest(device: torch.device | str) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if torch.device(device).type == "mps" else torch.float64


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

    def forward(self, noise: GaussianNoise, layout: Layout) -> Tensor:
        """What the queries of a target carry, (..., D) as its layout packs or pads."""
        places, text = (x.to(self.text.weight.dtype) for x in (noise.places, noise.text))
        return self.places(places) + layout.spread(self.text(text))
