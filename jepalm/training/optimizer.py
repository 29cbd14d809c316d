"""AdamW over an objective's parameters."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import AdamW

from jepalm.config import OptimizerConfig


def build_optimizer(objective: nn.Module, config: OptimizerConfig) -> AdamW:
    """AdamW (arXiv 1711.05101) in its fused form; matrices decay, vectors and scalars do not.

    What a weighting learns has a group of its own, with its own factor on the learning rate.
    """
    weighting = getattr(objective, "weighting", None)
    own = list(weighting.parameters()) if isinstance(weighting, nn.Module) else []
    parameters = [p for p in objective.parameters() if p.requires_grad and not any(p is q for q in own)]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if own:
        factor = getattr(weighting, "lr_factor", 1.0)
        groups.append({"params": own, "weight_decay": 0.0, "lr_factor": factor})
    fused = parameters[0].device.type in ("cpu", "cuda")
    return AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=fused)


def set_learning_rate(optimizer: AdamW, lr: float) -> None:
    """Give every parameter group the rate of this step, times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)


def forget_at_boundary(optimizer: AdamW, objective: nn.Module) -> None:
    """Drop the moments of what stands still from now on, and of a weighting, whose balance starts anew.

    A part that begins to learn so has a fresh state, and one that goes on keeps its own.
    """
    weighting = getattr(objective, "weighting", None)
    anew = set(weighting.parameters()) if isinstance(weighting, nn.Module) else set()
    for parameter in objective.parameters():
        if not parameter.requires_grad or parameter in anew:
            optimizer.state.pop(parameter, None)


def named_state(optimizer: AdamW, objective: nn.Module) -> dict[str, torch.Tensor]:
    """The optimizer's tensors under `PARAMETER/moment` names, for a file that holds tensors only."""
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in objective.named_parameters()}
    return {
        f"{names[parameter]}/{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def load_named_state(optimizer: AdamW, objective: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Put back what `named_state` gave."""
    for name, parameter in objective.named_parameters():
        prefix = f"{name}/"
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if state:
            optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in state.items()}
