"""Loss terms and their weighted sum. A term is a scalar; micro batches and devices add up to its mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from jepalm.model.layout import at_least_float32

IGNORE = -100
"""Label of a position without text."""


@dataclass(frozen=True)
class LossTerm:
    """One loss term: everything that metrics, weighting, validation, the report and the docs say of it.

    Attributes:
        name: as in `train/term/NAME` and `objective.NAME`.
        label: for people.
        unit: of the number.
        divisor: what the sum is divided by: `token`, `embedding`, `pair` or `batch`.
        nats: whether it is a cross-entropy.
        constant: whether a learned or running weighting leaves its weight as configured.
        validation: the key of its held-out value, such as `validation/generation_ce`; None: not validated.
    """

    name: str
    label: str
    unit: str
    divisor: Literal["token", "embedding", "pair", "batch"]
    nats: bool = False
    constant: bool = False
    validation: str | None = None


@dataclass(frozen=True)
class Losses:
    """What an objective makes of a batch.

    Attributes:
        total: scalar to minimise, the weighted sum of the terms.
        terms: each term, unweighted.
        weights: the weight each term had, without a graph.
    """

    total: Tensor
    terms: dict[str, Tensor]
    weights: Mapping[str, float | Tensor]


def weighted(terms: dict[str, Tensor], weights: Mapping[str, float | Tensor]) -> Losses:
    """Combine terms with weights that nothing learns."""
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return Losses(total, terms, {name: weights[name] for name in terms})


def cross_entropy(logits: Tensor, labels: Tensor, n_tokens: int, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy in nats a token: sum over positions over the number of tokens of the global batch.

    Args:
        logits: (..., V).
        labels: (...) right tokens; `IGNORE` where there is no text.
        n_tokens: tokens of the global batch.
        weights: (...) what each position weighs; 1 when None.
    """
    rows, targets = at_least_float32(logits).flatten(0, -2), labels.flatten()
    if weights is not None:
        nats = F.cross_entropy(rows, targets, ignore_index=IGNORE, reduction="none")  # (N,)
        return (nats * weights.flatten()).sum() / n_tokens
    return F.cross_entropy(rows, targets, ignore_index=IGNORE, reduction="sum") / n_tokens


def squared_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared Euclidean distance of each position's embeddings: two of (..., D) to (...).

    Predicting zero for targets normalised by LayerNorm without affine costs exactly D.
    """
    return (at_least_float32(predicted) - at_least_float32(target)).square().sum(-1)


def smooth_l1_distance(predicted: Tensor, target: Tensor, beta: float) -> Tensor:
    """Smooth L1 distance of each position's embeddings, summed over dims: two of (..., D) to (...).

    data2vec, arXiv 2202.03555, section 3.4: `d^2 / (2 beta)` up to a difference of beta, then
    `|d| - beta / 2`.
    """
    predicted, target = at_least_float32(predicted), at_least_float32(target)
    return F.smooth_l1_loss(predicted, target, reduction="none", beta=beta).sum(-1)


def cosine_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - cosine of each position's embeddings: two of (..., D) to (...), from 0 to 2.

    LLM-JEPA (arXiv 2509.14252) predicts so. The length of a prediction is free.
    """
    return 1 - F.cosine_similarity(at_least_float32(predicted), at_least_float32(target), dim=-1)


def length_error(predicted: Tensor, lengths: Tensor, n_pairs: int) -> Tensor:
    """Squared error of predicted lengths (B,), in positions squared."""
    return (at_least_float32(predicted) - lengths).square().sum() / n_pairs
