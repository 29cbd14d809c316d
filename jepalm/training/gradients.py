"""Which term weighted terms how hard, and where: gradients of the whole objective and of each term."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jepalm.data.batches import Batch
from jepalm.hardware import Hardware
from jepalm.objective.terms import Losses
from jepalm.training.distributed import Processes


def gradient_norm(module: nn.Module) -> Tensor:
    """Euclidean norm of the gradient over all parameters that have one, as a scalar on the device."""
    return nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])


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


def gradient_norms_of_step(
    objective: nn.Module, names: list[str], batches: list[Batch], hardware: Hardware, together: Processes
) -> Tensor:
    """Length of each term's own gradient over all parameters, for the whole batch of a step: (T,).

    Args:
        objective: turns a micro batch into `Losses`; not wrapped for several processes.
        names: the terms, T of them.
        batches: this process's micro batches.
        hardware: its precision.
        together: gradients are summed over these processes.
    """
    parameters = [p for p in objective.parameters() if p.requires_grad]
    sums = [[torch.zeros_like(p) for p in parameters] for _ in names]
    for batch in batches:
        with hardware.autocast():
            terms = objective(batch).terms
        for name, own in zip(names, sums, strict=True):
            if not terms[name].requires_grad:
                continue
            gradients = torch.autograd.grad(terms[name], parameters, retain_graph=True, allow_unused=True)
            for place, gradient in enumerate(gradients):
                if gradient is not None:
                    own[place] += gradient
    flat = [torch.cat([gradient.flatten() for gradient in own]) for own in sums]
    return torch.stack([together.total(gradient).norm() for gradient in flat])
