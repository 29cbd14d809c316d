"""The latent term of a causal model: one view's embedding predicted from the other's (arXiv 2509.14252).

Both views get gradient by default; what keeps the embeddings from collapsing is the cross-entropy beside.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from jepalm.model.layout import at_least_float32
from jepalm.objective.regularizers import over_devices
from jepalm.objective.terms import cosine_distance, squared_distance

_DROPOUT = 2
"""Keeps these draws apart from others of the same seed and step."""


def latent_distance(
    predicted: Tensor, target: Tensor, kind: str, temperature: float = 0.07, *, over_processes: bool = False
) -> Tensor:
    """Distance of each pair's predicted embedding to its target, two of (B, D) to (B,).

    Args:
        predicted: of the view that predicts.
        target: of the view that is predicted.
        kind: "cosine", "mse", "l2" or "infonce".
        temperature: of "infonce".
        over_processes: for "infonce", take the targets of all processes as candidates, with gradient.
    """
    if kind == "cosine":
        return cosine_distance(predicted, target)
    if kind == "infonce":
        return infonce(predicted, target, temperature, over_processes=over_processes)
    squared = squared_distance(predicted, target)  # (B,)
    if kind == "mse":
        return squared / predicted.shape[-1]
    return torch.linalg.vector_norm(at_least_float32(predicted) - at_least_float32(target), dim=-1)


def infonce(predicted: Tensor, target: Tensor, temperature: float, *, over_processes: bool = False) -> Tensor:
    """Cross-entropy of finding each own target among all by cosine, two of (B, D) to (B,).

    InfoNCE (arXiv 1807.03748, eq. 4) in one direction, as LLM-JEPA has it.
    """
    queries = F.normalize(at_least_float32(predicted), dim=-1)  # (B, D)
    candidates = F.normalize(at_least_float32(target), dim=-1)  # (B, D)
    first = 0
    if over_processes and dist.is_available() and dist.is_initialized():
        candidates, first = gathered(candidates)
    own = first + torch.arange(len(queries), device=queries.device)
    with torch.autocast(queries.device.type, enabled=False):
        return F.cross_entropy(queries @ candidates.T / temperature, own, reduction="none")


def gathered(rows: Tensor) -> tuple[Tensor, int]:
    """Rows (B, D) of all processes behind one another, with gradient, and the place of the first own one."""
    first = dist.get_rank() * len(rows)
    after = (dist.get_world_size() - dist.get_rank() - 1) * len(rows)
    return over_devices(F.pad(rows, (0, 0, first, after))), first


def counts_at(step: int, dropout: float, seed: int) -> bool:
    """Whether the term counts at a step (from 0) under loss dropout, the same on all devices.

    The first step always counts: what a step costs is estimated from it.
    """
    return step == 0 or bool(np.random.default_rng([seed, step, _DROPOUT]).random() >= dropout)
