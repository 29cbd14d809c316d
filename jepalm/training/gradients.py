"""Which term pulls how hard: gradient norms of the whole objective and of each term on the encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jepalm.objective.terms import Losses


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
