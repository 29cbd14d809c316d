"""Floating-point operations, counted as the matrix products are called."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

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
