"""Embedding health: are the embeddings alive, and how much of them does the predictor explain?"""

from __future__ import annotations

import torch
from torch import Tensor


def r2(error: Tensor, baseline_error: Tensor) -> float:
    """Share of a baseline's squared error that is gone: 1 for a perfect prediction, 0 for the baseline's."""
    return float(1 - error / baseline_error) if float(baseline_error) > 0 else float("nan")


def mean_std(rows: Tensor) -> float:
    """Standard deviation of each dimension over (N, D) rows, then the mean over dimensions."""
    return float(rows.std(0, correction=0).mean())


def effective_rank(rows: Tensor) -> float:
    """Exponential of the entropy of the normalised singular values of centred (N, D) rows.

    Roy and Vetterli 2007, definition 1; RankMe (arXiv 2210.02885, eq. 1) is the same on uncentred rows.
    From 1 (one direction) to min(N, D).
    """
    centred = rows.double() - rows.double().mean(0)
    variances = torch.linalg.eigvalsh(centred.T @ centred).clamp(min=0)
    singular = variances.sqrt()
    total = singular.sum()
    if float(total) == 0:
        return 1.0
    shares = singular / total
    return float(torch.exp(-torch.special.xlogy(shares, shares).sum()))
