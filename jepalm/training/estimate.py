"""What a run will cost here: a few timed steps on a copy of the model, before anything is written."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from statistics import median

from torch.utils.flop_counter import FlopCounterMode

from jepalm.config import Config
from jepalm.data.batches import Batches
from jepalm.hardware import Hardware, peak_memory
from jepalm.objective import Objective
from jepalm.training.checkpoint import checkpoint_bytes
from jepalm.training.optimizer import build_optimizer

WARM_UP_STEPS, TIMED_STEPS = 2, 6


@dataclass(frozen=True)
class Estimate:
    """Measured on this machine.

    Attributes:
        seconds_per_step: median over the timed steps, not compiled.
        flops_per_step: floating-point operations of the matrix products of one step, forward and backward.
        memory: most bytes held so far, on the device or resident.
        disk: bytes that the checkpoints of the run will take at most.
    """

    seconds_per_step: float
    flops_per_step: int
    memory: int
    disk: int


def estimate(objective: Objective, batches: Batches, config: Config, hardware: Hardware) -> Estimate:
    """Time a few steps on a copy; the objective itself stays as it is."""
    trial = copy.deepcopy(objective)
    optimizer = build_optimizer(trial, config.optimizer)

    def step(number: int) -> None:
        for batch in batches.at(number):
            with hardware.autocast():
                total = trial(batch).total
            total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    counter = FlopCounterMode(display=False)
    with counter:
        step(0)
    times = []
    for number in range(1, 1 + WARM_UP_STEPS + TIMED_STEPS):
        hardware.synchronize()
        start = time.perf_counter()
        step(number)
        hardware.synchronize()
        times.append(time.perf_counter() - start)
    disk = (config.training.keep + 2) * checkpoint_bytes(trial)
    return Estimate(
        median(times[WARM_UP_STEPS:]), counter.get_total_flops(), peak_memory(hardware.device), disk
    )
