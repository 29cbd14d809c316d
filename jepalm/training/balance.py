"""What a weighting asks of the trainer: first terms, the terms of a step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from jepalm.data.batches import Batch
from jepalm.hardware import Hardware
from jepalm.objective import Objective
from jepalm.training.distributed import Processes
from jepalm.training.metrics import StepBuffer
from jepalm.training.randomness import seed_step


@dataclass(frozen=True)
class Balance:
    """Measures for an objective's weighting; nothing where it asks for nothing.

    Attributes:
        objective: whose weighting it is; not wrapped for several processes.
        seed: the run's.
        hardware: its precision and device.
        together: the processes over which is summed.
    """

    objective: Objective
    seed: int
    hardware: Hardware
    together: Processes

    def begin(self, step: int, micro_batches: list[Batch]) -> None:
        """Show the terms as they are before a balance's first step, the run's step `step` from 0."""
        weighting = self.objective.weighting
        if not weighting.reads_terms or not weighting.balanced:
            return
        seed_step(self.seed, step, self.together.rank)
        terms = torch.zeros(len(weighting.balanced), device=self.hardware.device)
        with torch.no_grad(), self.hardware.autocast():
            for batch in micro_batches:
                found = self.objective(batch).terms
                terms += torch.stack([found[name].float() for name in weighting.balanced])
        weighting.begin(self.together.total(terms))

    def terms(self, recent: StepBuffer) -> Tensor | None:
        """The balanced terms of the last step over all processes."""
        weighting = self.objective.weighting
        if not weighting.reads_terms:
            return None
        row = self.together.total(recent.last())
        return row[[recent.names.index(name) for name in weighting.balanced]]
