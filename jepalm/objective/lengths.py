"""The lengths of targets: what the length head's numbers mean.

Non-autoregressive translation predicts the length of a target so, or how much longer than its source it is
(Gu et al. 2018, arXiv 1711.02281, section 4.1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from jepalm.config import LengthConfig, ModelConfig
from jepalm.model.layout import at_least_float32


def length_bins(model: ModelConfig, length: LengthConfig) -> int:
    """How many numbers the head gives: one, or one a length from 0, or one a difference of lengths."""
    if length.kind != "classification":
        return 1
    return model.target_len + 1 + (model.source_len if length.relative else 0)


def as_lengths(found: Tensor, read: Tensor, model: ModelConfig, length: LengthConfig) -> Tensor:
    """Differences of lengths as lengths (B,), or as logits (B, L + 1) of all lengths from 0 on.

    Args:
        found: (B,) or (B, bins) of a head that is relative.
        read: lengths (B,) of the sources.
        model: sizes.
        length: what the head predicts.
    """
    if length.kind == "mse":
        return found + read
    lengths = torch.arange(model.target_len + 1, device=found.device)  # (L + 1,)
    return found.gather(1, lengths - read[:, None] + model.source_len)


def expected_length(logits: Tensor) -> Tensor:
    """(B, L + 1) logits of all lengths from 0 on to (B,) expected ones."""
    probabilities = at_least_float32(logits).softmax(-1)  # (B, L + 1)
    bins = torch.arange(probabilities.shape[-1], device=logits.device)
    return (probabilities * bins).sum(-1)  # no product of matrices, which autocast would round to bf16


def likeliest_lengths(found: Tensor, longest: int, n: int) -> Tensor:
    """The n most likely lengths (B, n) from 1 on, the likeliest first.

    Of a squared-error head's lengths (B,) these are the whole numbers nearest to its prediction, which a
    normal distribution around it puts first; of a classification the highest logits (B, L + 1).
    """
    if found.ndim == 2:
        return found[:, 1:].topk(min(n, longest)).indices + 1
    if n == 1:
        return found.float().round().long().clamp(1, longest)[:, None]
    bins = torch.arange(1, longest + 1, device=found.device)  # (L,)
    return (found.float()[:, None] - bins).square().neg().topk(min(n, longest)).indices + 1
