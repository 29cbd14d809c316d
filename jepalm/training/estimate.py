"""What a run will cost here: a few timed steps on a copy of the model, before anything is written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from jepalm.config import Config
from jepalm.data.batches import Batches
from jepalm.hardware import Hardware, peak_memory
from jepalm.objective import Objective
from jepalm.training.checkpoint import checkpoint_bytes
from jepalm.training.flops import count_flops
from jepalm.training.phases import check_reach
from jepalm.training.schedule import Phase, Plan
from jepalm.training.trial import Trial

WARM_UP_STEPS, TIMED_STEPS = 2, 6


@dataclass(frozen=True)
class Estimate:
    """Measured on this machine.

    Attributes:
        seconds_per_step: median over the timed steps, not compiled; with phases the mean over what is left.
        flops_per_step: floating-point operations of the matrix products of one step with all its terms,
            forward and backward; with phases the mean over what is left.
        memory: most bytes held so far, on the device or resident.
        disk: bytes that the checkpoints of the run will take at most.
        by_phase: seconds a step of each phase that is left, by its name; empty without phases.
    """

    seconds_per_step: float
    flops_per_step: int
    memory: int
    disk: int
    by_phase: Mapping[str, float] = field(default_factory=dict)


def estimate(
    objective: Objective, batches: Batches, config: Config, hardware: Hardware, done: int = 0
) -> Estimate:
    """Time a few steps of each phase that is left on a copy; the objective itself stays as it is.

    Args:
        objective: what is trained.
        batches: training batches.
        config: the run's.
        hardware: where and how to compute.
        done: steps that were trained before.

    Raises:
        UsageError: a phase trains a part that none of its terms reaches.
    """
    plan = Plan.of(config.training, batches.steps_per_pass)
    left = [phase for phase in plan.stretches if phase.end > done]
    found = [_try(phase, objective, batches, config, hardware) for phase in left]
    steps = [phase.end - max(done, phase.first) for phase in left]
    seconds, flops = (
        sum(own * n for own, n in zip(column, steps, strict=True)) / sum(steps)
        for column in zip(*found, strict=True)
    )
    by_phase = {phase.name: own for phase, (own, _) in zip(left, found, strict=True) if phase.name}
    disk = (config.training.keep + 2) * checkpoint_bytes(objective)
    return Estimate(seconds, round(flops), peak_memory(hardware.device), disk, by_phase)


def _try(
    phase: Phase, objective: Objective, batches: Batches, config: Config, hardware: Hardware
) -> tuple[float, int]:
    """Seconds and matrix-product operations of one step of a phase."""
    trial = Trial(objective, batches, config, hardware, phase)

    def after(part: str) -> None:
        if part == "backward":
            check_reach(phase.config, trial.objective)

    flops = count_flops(lambda: trial.step(0, after))
    times = []
    for number in range(1, 1 + WARM_UP_STEPS + TIMED_STEPS):
        hardware.synchronize()
        start = time.perf_counter()
        trial.step(number)
        hardware.synchronize()
        times.append(time.perf_counter() - start)
    return median(times[WARM_UP_STEPS:]), flops
