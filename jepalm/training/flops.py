"""Floating-point operations, counted as the matrix products are called."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from jepalm.data.batches import Batch, Batches
from jepalm.hardware import Hardware
from jepalm.objective import Objective
from jepalm.training.distributed import Processes

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


class StepFlops:
    """Operations of an optimizer step, over all devices; measured once for each kind of step.

    Every kind is measured on the run's first batch, so that the same run counts the same, resumed or not.
    Steps are of one kind when they belong to the same phase and leave the same terms out. What varies
    with the widths of the batches is not in the figure.
    """

    def __init__(
        self, objective: Objective, batches: Batches, hardware: Hardware, together: Processes
    ) -> None:
        self.objective, self.batches = objective, batches
        self.hardware, self.together = hardware, together
        self.measured: dict[tuple[int, tuple[str, ...]], int] = {}

    def of_step(self, phase: int) -> int:
        """Operations of the step that `before_step` prepared; draws random numbers where it measures."""
        kind = phase, self.objective.left_out
        if kind not in self.measured:
            micro_batches = self.batches.at(0)
            alone = count_flops(lambda: self._pass(micro_batches[0]))
            self.measured[kind] = alone * len(micro_batches) * self.together.world_size
        return self.measured[kind]

    def _pass(self, batch: Batch) -> None:
        """Forward and backward, leaving no gradient."""
        with self.hardware.autocast():
            total = self.objective(batch).total
        if total.requires_grad:
            parameters = [p for p in self.objective.parameters() if p.requires_grad]
            torch.autograd.grad(total, parameters, allow_unused=True)
