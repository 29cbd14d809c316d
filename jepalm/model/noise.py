"""Gumbel noise: a number for each token of the vocabulary at each position.

The coupling (`objective/coupling.py`) says which text it stands for, and the intermediate logits read it.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 1e-10
"""Least draw of an exponential: losers stay below the winner by more than float64 rounds off."""


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
