"""Activations computed again in the backward pass instead of kept: less memory, a third more arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from types import MethodType
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from jepalm.model.blocks import Block
from jepalm.model.causal import CausalBlock


def transformer_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The blocks of all parts, which hold most weights and activations."""
    return (part for part in module.modules() if isinstance(part, Block | CausalBlock))


def recompute_blocks(module: nn.Module) -> None:
    """Keep of each block its input alone (arXiv 1604.06174); random numbers are drawn again as they were."""
    for block in transformer_blocks(module):
        setattr(block, "forward", MethodType(_recomputed, block))  # noqa: B010 (a copy gets its own)


def _recomputed(block: nn.Module, *given: Any, **named: Any) -> Any:
    return checkpoint(type(block).forward, block, *given, use_reentrant=False, **named)
