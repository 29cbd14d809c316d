"""What a run will cost here: a few timed steps on a copy of the model, before anything is written."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

from jepalm.config import Config
from jepalm.data.batches import Batches
from jepalm.hardware import Hardware, peak_memory
from jepalm.objective import Objective
from jepalm.training.checkpoint import checkpoint_bytes
from jepalm.training.flops import step_flops
from jepalm.training.phases import check_reach
from jepalm.training.schedule import Phase, Schedule
from jepalm.training.sharding import is_sharded
from jepalm.training.trial import Trial

WARM_UP_STEPS, TIMED_STEPS = 2, 6
TIMED_MEASUREMENTS = 2


@dataclass(frozen=True)
class Estimate:
    """Measured on this machine; with phases, numbers of a step are means over the steps that are left.

    Attributes:
        seconds_per_step: median over the timed steps, not compiled, and the step's share of the time in
            which each term's gradient on the encoder is measured.
        flops_per_step: floating-point operations of the matrix products of one step with all its terms,
            forward and backward.
        memory: most bytes held so far, on the device or resident.
        disk: bytes that the checkpoints of the run will take at most.
        seconds_by_phase: seconds a step of each phase that is left, by its name; empty without phases.
        untaught: parts of the model that no gradient reaches; not looked for in phases, which name what they
            train, and where steps leave terms out.
    """

    seconds_per_step: float
    flops_per_step: int
    memory: int
    disk: int
    seconds_by_phase: Mapping[str, float] = field(default_factory=dict)
    untaught: tuple[str, ...] = ()


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
    schedule = Schedule.of(config.training, batches.steps_per_pass)
    steps, seconds, flops = 0, 0.0, 0
    by_phase: dict[str, float] = {}
    untaught: tuple[str, ...] = ()
    for phase in schedule.stretches:
        if phase.end <= done:
            continue
        trial = Trial(objective, batches, config, hardware, phase)
        left = phase.end - max(done, phase.first)
        reached = _reached(trial, phase)
        flops += left * step_flops(trial.objective, batches.at(0), trial.autocast)
        a_step = _median_seconds(trial.step, hardware, WARM_UP_STEPS, TIMED_STEPS)
        every = 0 if is_sharded(hardware) else schedule.encoder_gradients_every
        if every:
            once = _median_seconds(trial.measure_encoder_gradients, hardware, 1, TIMED_MEASUREMENTS)
            a_step += once * math.ceil(left / every) / left
        steps, seconds = steps + left, seconds + left * a_step
        if phase.name:
            by_phase[phase.name] = a_step
        elif not objective.may_leave_out:
            untaught = tuple(part for part in objective.parameters_by_part() if part not in reached)
    disk = (config.training.keep + 2) * checkpoint_bytes(objective)
    memory = peak_memory(hardware.device)
    return Estimate(seconds / steps, round(flops / steps), memory, disk, by_phase, untaught)


def _reached(trial: Trial, phase: Phase) -> set[str]:
    """Parts of the model that the gradients of a step reach, all among them that the phase names."""
    found: set[str] = set()

    def after(part: str) -> None:
        if part == "backward":
            found.update(check_reach(phase.config, trial.objective))

    trial.step(0, after)
    return found


def _median_seconds(action: Callable[[int], None], hardware: Hardware, warm_up: int, timed: int) -> float:
    """Median seconds of an action of the step that it is given, after `warm_up` calls that do not count."""
    times = []
    for number in range(1, 1 + warm_up + timed):
        hardware.synchronize()
        start = time.perf_counter()
        action(number)
        hardware.synchronize()
        times.append(time.perf_counter() - start)
    return median(times[warm_up:])
