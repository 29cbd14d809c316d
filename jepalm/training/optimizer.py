"""AdamW over an objective's parameters, or Muon for the matrices of its hidden layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import AdamW

from jepalm.config import OptimizerConfig
from jepalm.errors import UsageError

OF_TOKENS = frozenset({"vocabulary", "head", "lm_head", "token_vectors", "to_embedding", "noise"})
"""Linear layers that read or write tokens: no hidden ones."""


class MuonWithAdamW:
    """Muon for the matrices of hidden layers, AdamW for the rest, as one optimizer.

    Attributes:
        param_groups: those of both.
        state: of all parameters, in one mapping.
    """

    def __init__(self, muon: torch.optim.Optimizer, adamw: AdamW) -> None:
        self._muon, self._adamw = muon, adamw
        muon.state = adamw.state
        self.state = adamw.state
        self.param_groups: list[dict[str, Any]] = [*muon.param_groups, *adamw.param_groups]

    def step(self) -> None:
        """Move all parameters."""
        self._muon.step()
        self._adamw.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients."""
        self._muon.zero_grad(set_to_none)
        self._adamw.zero_grad(set_to_none)


Optimizer = AdamW | MuonWithAdamW


def build_optimizer(objective: nn.Module, config: OptimizerConfig, *, capturable: bool = False) -> Optimizer:
    """AdamW (arXiv 1711.05101) in its fused form; matrices decay, vectors and scalars do not.

    What a weighting learns has a group of its own, with its own factor on the learning rate.

    With `config.kind` `muon` the matrices of hidden layers are Muon's (Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon/): each update is made nearly orthogonal. Its rate keeps its
    ratio to that of AdamW.

    With `capturable` the learning rate is a tensor, and on a GPU a CUDA graph may hold AdamW's step.

    Raises:
        UsageError: this torch has no Muon.
    """
    weighting = getattr(objective, "weighting", None)
    own = list(weighting.parameters()) if isinstance(weighting, nn.Module) else []
    parameters = [p for p in objective.parameters() if p.requires_grad and not any(p is q for q in own)]
    hidden = hidden_matrices(objective) if config.kind == "muon" else []
    parameters = [p for p in parameters if not any(p is q for q in hidden)]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if own:
        factor = getattr(weighting, "lr_factor", 1.0)
        groups.append({"params": own, "weight_decay": 0.0, "lr_factor": factor})
    fused = parameters[0].device.type in ("cpu", "cuda")
    device = parameters[0].device
    for group in groups if capturable else ():
        group["lr"] = torch.tensor(config.lr, device=device)  # each its own, as their factors differ
    betas, on_gpu = (config.beta1, config.beta2), device.type == "cuda"
    adamw = AdamW(groups, lr=config.lr, betas=betas, fused=fused, capturable=capturable and on_gpu)
    if config.kind == "adamw":
        return adamw
    if not hasattr(torch.optim, "Muon"):
        message = f"torch {torch.__version__} has no Muon"
        raise UsageError(message, "install torch 2.9 or newer, or set optimizer.kind=adamw")
    group = {"params": hidden, "lr_factor": config.muon_lr / config.lr}
    return MuonWithAdamW(
        torch.optim.Muon([group], lr=config.muon_lr, weight_decay=config.weight_decay), adamw
    )


def hidden_matrices(objective: nn.Module) -> list[nn.Parameter]:
    """Matrices of the linear and recurrent layers that neither read nor write tokens, and that learn."""
    return [
        parameter
        for name, module in objective.named_modules()
        if isinstance(module, nn.Linear | nn.GRU) and name.rsplit(".", 1)[-1] not in OF_TOKENS
        for parameter in module.parameters(recurse=False)
        if parameter.ndim == 2 and parameter.requires_grad
    ]


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Give every parameter group the rate of this step, times its own factor."""
    for group in optimizer.param_groups:
        rate = lr * group.get("lr_factor", 1.0)
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def forget_at_boundary(optimizer: Optimizer, objective: nn.Module) -> None:
    """Drop the moments of what stands still from now on, and of a weighting, whose balance starts anew.

    A part that begins to learn so has a fresh state, and one that goes on keeps its own.
    """
    weighting = getattr(objective, "weighting", None)
    anew = set(weighting.parameters()) if isinstance(weighting, nn.Module) else set()
    for parameter in objective.parameters():
        if not parameter.requires_grad or parameter in anew:
            optimizer.state.pop(parameter, None)


def named_state(optimizer: Optimizer, objective: nn.Module) -> dict[str, torch.Tensor]:
    """The optimizer's tensors under `PARAMETER/moment` names, for a file that holds tensors only."""
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in objective.named_parameters()}
    return {
        f"{names[parameter]}/{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def load_named_state(optimizer: Optimizer, objective: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Put back what `named_state` gave; a count of steps may come as a vector of one."""
    for name, parameter in objective.named_parameters():
        prefix = f"{name}/"
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if state:
            if "step" in state:
                state["step"] = state["step"].reshape(())
            optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in state.items()}
