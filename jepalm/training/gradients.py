"""Gradients of the whole loss, and of each weighted term on the encoder."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from jepalm.data.batches import Batch
from jepalm.objective import Objective
from jepalm.objective.terms import Losses
from jepalm.training.sharding import whole


def gradient_norm(module: nn.Module) -> Tensor:
    """Euclidean norm of the gradient over all parameters that have one, as a scalar on the device."""
    return whole(nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None]))


def weight_norm(module: nn.Module) -> Tensor:
    """Euclidean norm of all parameters, as a scalar on the device."""
    return whole(nn.utils.get_total_norm([p.detach() for p in module.parameters()]))


def encoder_gradients(
    objective: Objective, batch: Batch, autocast: AbstractContextManager[object]
) -> dict[str, float]:
    """Norm and cosines of each weighted term's gradient on the encoder, as metrics of a train row.

    Costs a forward pass and a backward pass a term, and changes no gradient. Empty where the encoder is not
    trained.

    Args:
        objective: not wrapped for several processes.
        batch: one micro batch.
        autocast: the run's precision.
    """
    parameters = [p for p in objective.encoder_parameters() if p.requires_grad]
    if not parameters:
        return {}
    with autocast:
        losses = objective(batch)
    norms, cosines = norms_and_cosines(gradients_by_term(losses, parameters))
    return {
        **{f"train/grad_norm_encoder/{name}": value for name, value in norms.items()},
        **{f"train/grad_cosine/{a}/{b}": value for (a, b), value in cosines.items()},
    }


Gradients = list[Tensor | None]
"""A gradient on each of some parameters; None where none flows."""


def gradients_by_term(losses: Losses, parameters: list[nn.Parameter]) -> dict[str, Gradients]:
    """Each weighted term's own gradient on each of the given parameters.

    Args:
        losses: terms with their graph still there.
        parameters: for instance those of the shared encoder.
    """
    gradients: dict[str, Gradients] = {}
    for name, term in losses.terms.items():
        gradients[name] = [None] * len(parameters)
        if term.requires_grad:
            weighted = losses.weights[name] * term
            found = torch.autograd.grad(weighted, parameters, retain_graph=True, allow_unused=True)
            gradients[name] = list(found)
    return gradients


def norms_and_cosines(
    gradients: Mapping[str, Gradients],
) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """Euclidean norm of each gradient, and the cosine of each pair of which neither is zero.

    A cosine under 0 means that a step along the one gradient raises the other's term (Yu et al. 2020,
    arXiv 2001.06782, definition 1).

    Args:
        gradients: of each term, on the same parameters.
    """
    norms, cosines = {}, {}
    for name, own in gradients.items():
        known = [gradient for gradient in own if gradient is not None]
        norms[name] = float(nn.utils.get_total_norm(known)) if known else 0.0
    reaching = [name for name in gradients if norms[name] > 0]
    for first, second in itertools.combinations(reaching, 2):
        products = [
            torch.dot(a.flatten(), b.flatten())
            for a, b in zip(gradients[first], gradients[second], strict=True)
            if a is not None and b is not None
        ]
        product = float(torch.stack(products).sum()) if products else 0.0
        cosines[first, second] = product / (norms[first] * norms[second])
    return norms, cosines
