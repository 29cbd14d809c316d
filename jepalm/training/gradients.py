"""Which term pulls how hard: gradient norms of the whole objective and of each term on the encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jepalm.data.batches import Batch
from jepalm.hardware import Hardware
from jepalm.objective.terms import Losses
from jepalm.training.distributed import Processes


def gradient_norm(module: nn.Module) -> Tensor:
    """Euclidean norm of the gradient over all parameters that have one, as a scalar on the device."""
    return nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])


def gradient_norms_by_term(losses: Losses, parameters: list[nn.Parameter]) -> dict[str, float]:
    """Euclidean norm of each weighted term's own gradient on the given parameters; 0 where none flows.

    Args:
        losses: terms with their graph still there.
        parameters: for instance those of the shared encoder.
    """
    norms = {}
    for name, term in losses.terms.items():
        if not term.requires_grad:
            norms[name] = 0.0
            continue
        gradients = torch.autograd.grad(
            losses.weights[name] * term, parameters, retain_graph=True, allow_unused=True
        )
        own = [gradient for gradient in gradients if gradient is not None]
        norms[name] = float(nn.utils.get_total_norm(own)) if own else 0.0
    return norms


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
