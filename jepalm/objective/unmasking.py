"""Which tokens of a target the predictor is given in training, and what the hidden ones weigh.

A text of L tokens has n of them unmasked, n uniform over the shares that are set, each set of n tokens as
likely as any other. Its hidden tokens weigh L / (L - n) each: a text then costs L times the mean over its
hidden tokens, so the terms are still over the target tokens of the global batch, whatever was drawn. With
shares from 0 to 1 the generation term is an upper bound of the negative log-likelihood of a chain that
decides one token a pass in random order (arXiv 2110.02037), which is the 1 / t weighting of masked
diffusion (arXiv 2406.07524) with whole numbers of hidden tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from jepalm.config import UnmaskingConfig


def share_left(config: UnmaskingConfig, step: int) -> float:
    """What the shares are multiplied by at a step (from 0)."""
    return 1.0 if config.until is None else max(0.0, 1 - step / config.until)


def draw_unmasked(mask: Tensor, config: UnmaskingConfig, left: Tensor | float = 1.0) -> Tensor:
    """Draw what is unmasked of each text, (B, T) bool, from torch's global generator.

    Args:
        mask: (B, T) bool, true where there is text.
        config: from which share to which, and in which order.
        left: what the shares are multiplied by.
    """
    lengths = mask.sum(1, keepdim=True)  # (B, 1)
    spread = config.share_to - config.share_from
    share = config.share_from + spread * torch.rand(lengths.shape, device=mask.device)  # (B, 1)
    number = (left * share * lengths).floor()  # (B, 1)
    if config.order == "prefix":
        return torch.arange(mask.shape[1], device=mask.device) < number
    keys = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, 2.0)  # (B, T): padding is last
    return keys.argsort(1).argsort(1) < number


def hidden_weights(mask: Tensor, unmasked: Tensor) -> Tensor:
    """What each position weighs in a mean over target tokens, (B, T): L / hidden where hidden, else 0."""
    hidden = mask & ~unmasked  # (B, T)
    numbers = hidden.sum(1, keepdim=True).clamp(min=1)  # (B, 1)
    return hidden * (mask.sum(1, keepdim=True) / numbers)
