"""What a run will cost here: a few timed steps on a copy of the model, before anything is written."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

from jepalm.config import Config
from jepalm.data.batches import Batches
from jepalm.hardware import Hardware, peak_memory
from jepalm.objective import Objective
from jepalm.training.checkpoint import checkpoint_bytes
from jepalm.training.flops import count_flops
from jepalm.training.trial import Trial

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
    trial = Trial(objective, batches, config, hardware)
    flops = count_flops(lambda: trial.step(0))
    times = []
    for number in range(1, 1 + WARM_UP_STEPS + TIMED_STEPS):
        hardware.synchronize()
        start = time.perf_counter()
        trial.step(number)
        hardware.synchronize()
        times.append(time.perf_counter() - start)
    disk = (config.training.keep + 2) * checkpoint_bytes(trial.objective)
    return Estimate(median(times[WARM_UP_STEPS:]), flops, peak_memory(hardware.device), disk)
