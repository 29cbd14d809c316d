"""Loss terms: one record for each, how they are summed, and the formulas of those that are one line.

A term is a scalar; micro batches and devices add up to its mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from jepalm.config import ObjectiveConfig
from jepalm.model.layout import at_least_float32

IGNORE = -100
"""Label of a position without text."""


@dataclass(frozen=True)
class LossTerm:
    """One loss term: everything that metrics, weighting, validation, the report and the docs say of it.

    Attributes:
        name: as in `train/term/NAME` and `objective.NAME`.
        label: for people.
        unit: of the number; empty for one that has none.
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


EMBEDDING_UNITS = {
    "mse": "squared distance, sum over dims",
    "smooth_l1": "smooth L1 distance, sum over dims",
    "cosine": "1 - cosine",
}
LATENT_UNITS = {
    "cosine": "1 - cosine",
    "mse": "squared difference, mean over dims",
    "l2": "length of the difference",
    "infonce": "nats a pair",
}


def loss_terms(family: str, config: ObjectiveConfig) -> list[LossTerm]:
    """All terms of a family as they are configured, also those that are off, in the order of `forward`."""
    if family == "causal":
        latent = config.latent.distance
        unit, nats = LATENT_UNITS[latent], latent == "infonce"
        return [
            _of_tokens("next_token", "next token"),
            LossTerm("latent", "latent prediction", unit, "pair", nats, validation="validation/latent"),
            LossTerm("tube", "semantic tube", "1 - cosine", "pair", validation="validation/tube"),
        ]
    distance = config.embedding.distance
    unit, key = EMBEDDING_UNITS[distance], "embedding" if distance == "mse" else "embedding_distance"
    length = LossTerm("length", "length", "squared positions", "pair", validation="validation/length_mse")
    if config.length.kind == "classification":
        length = replace(length, unit="nats a pair", nats=True, validation="validation/length_ce")
    return [
        _of_tokens("reconstruction", "reconstruction"),
        LossTerm("embedding", "embedding", unit, "embedding", validation=f"validation/{key}"),
        _of_tokens("generation", "generation"),
        _of_tokens("intermediate_logits", "intermediate logits"),
        _of_tokens("local", "local head"),
        _of_tokens("encoder_lm", "encoder as LM"),
        _of_tokens("decoder_lm", "decoder as LM"),
        length,
        LossTerm("kl", "KL", "nats a latent", "embedding", False, True, "validation/kl"),
        LossTerm("regularizer", "regularizer", "", "batch", False, True, "validation/regularizer"),
    ]


def _of_tokens(name: str, label: str) -> LossTerm:
    """A cross-entropy over tokens."""
    unit, key = "nats a character or token", f"validation/{name}_ce"
    return LossTerm(name, label, unit, "token", nats=True, validation=key)


def is_on(term: LossTerm, config: ObjectiveConfig) -> bool:
    """Whether a term is computed at all; a phase may still leave it out."""
    if term.name == "next_token":
        return True
    section = getattr(config, term.name)
    if term.name in ("length", "regularizer"):
        return bool(section.kind != "none")
    return bool(section.weight > 0)


def term_weight(term: LossTerm, config: ObjectiveConfig) -> float:
    """The configured weight; under loss dropout that of the steps that count the term."""
    weight: float = getattr(config, term.name).weight
    latent = config.latent
    return weight / (1 - latent.dropout) if term.name == "latent" and latent.rescale else weight


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
    """Combine terms with weights that are not learned."""
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


def token_nats(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each position in nats, (..., V) and (...) to (...); 0 where the label is `IGNORE`."""
    rows = at_least_float32(logits).flatten(0, -2)
    return F.cross_entropy(rows, labels.flatten(), ignore_index=IGNORE, reduction="none").view(labels.shape)


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
