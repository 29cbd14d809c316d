"""Which term pulls how hard, and where: gradients of the whole objective and of each term."""

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


def gradients_by_term(losses: Losses, parameters: list[nn.Parameter]) -> dict[str, Tensor | None]:
    """Each weighted term's own gradient on the given parameters in a row, (P,); None where none flows.

    Args:
        losses: terms with their graph still there.
        parameters: for instance those of the shared encoder; frozen ones are left out.
    """
    learning = [p for p in parameters if p.requires_grad]
    gradients: dict[str, Tensor | None] = {}
    for name, term in losses.terms.items():
        gradients[name] = None
        if not term.requires_grad or not learning:
            continue
        own = torch.autograd.grad(
            losses.weights[name] * term,
            learning,
            retain_graph=True,
            allow_unused=True,
        )
        if any(gradient is not None for gradient in own):
            flat = [
                (torch.zeros_like(p) if gradient is None else gradient).flatten()
                for p, gradient in zip(learning, own, strict=True)
            ]
            gradients[name] = torch.cat(flat)
    return gradients


def norms_and_cosines(
    gradients: Mapping[str, Tensor | None],
) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """Euclidean norm of each gradient, and the cosine of each pair of which neither is zero.

    A cosine under 0 means that a step along the one gradient raises the other's term (Yu et al. 2020,
    arXiv 2001.06782, definition 1).

    Args:
        gradients: by term, (P,) or None for zero.
    """
    norms = {name: 0.0 if own is None else float(own.norm()) for name, own in gradients.items()}
    directions = {
        name: own / norms[name] for name, own in gradients.items() if own is not None and norms[name] > 0
    }
    pairs = itertools.combinations(directions, 2)
    return norms, {(a, b): float(directions[a] @ directions[b]) for a, b in pairs}


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
            gradients = torch.autograd.grad(terms[name], parameters, retain_graph=True, allow_unused=True)
            for place, gradient in enumerate(gradients):
                if gradient is not None:
                    own[place] += gradient
    flat = [torch.cat([gradient.flatten() for gradient in own]) for own in sums]
    return torch.stack([together.total(gradient).norm() for gradient in flat])
