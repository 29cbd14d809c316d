"""Floating-point operations, counted as the matrix products are called."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from jepalm.data.batches import Batch
from jepalm.objective import Objective

Shape = tuple[int, ...]


def _attention(q: Shape, k: Shape, v: Shape, *rest: object, **named: object) -> int:
    return int(sdpa_flop_count(q, k, v))


def _attention_backward(gradient: Shape, q: Shape, k: Shape, v: Shape, *rest: object, **named: object) -> int:
    return int(sdpa_backward_flop_count(gradient, q, k, v))


CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""The fused attention of CPUs, which torch's counter leaves out; counted as torch counts that of GPUs."""


def count_flops(action: Callable[[], object]) -> int:
    """Run an action, not compiled, and return the floating-point operations of its matrix products.

    A product of (M, K) and (K, N) has 2 MKN. What is causal in fused attention is not taken off.
    """
    counter = FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION)
    with counter:
        action()
    return int(counter.get_total_flops())


def step_flops(
    objective: Objective, micro_batches: list[Batch], autocast: AbstractContextManager[object]
) -> int:
    """Operations of forward and backward over one process's micro batches, by those of the first.

    Leaves no gradient, but draws random numbers.
    """

    def forward_and_backward() -> None:
        with autocast:
            total = objective(micro_batches[0]).total
        if total.requires_grad:
            parameters = [p for p in objective.parameters() if p.requires_grad]
            torch.autograd.grad(total, parameters, allow_unused=True)

    return len(micro_batches) * count_flops(forward_and_backward)
