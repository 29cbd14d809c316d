"""How fast a run trains here: its step, the parts of it, FLOP/s beside the peak, the top operators."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from jepalm.config import Config
from jepalm.data.batches import Batches
from jepalm.evaluation.speed.timing import Clock, TimingQuartiles, in_turns
from jepalm.hardware import Hardware, fast_bf16, matrix_product, peak_flops
from jepalm.objective import Objective
from jepalm.training.flops import count_flops
from jepalm.training.trial import PARTS, Trial

STEPS = 4
"""Steps timed as one, of the same batches in every round: batches differ in their text."""
PRODUCTS = 4
"""Matrix products timed as one."""
TOP = 10


@dataclass(frozen=True)
class Peak:
    """What the device can do at best.

    Attributes:
        flops_per_s: floating-point operations a second.
        measured: of a matrix product timed between the steps; else from the maker's data sheet.
    """

    flops_per_s: float
    measured: bool


@dataclass(frozen=True)
class Operator:
    """What the profiler saw of one operator.

    Attributes:
        name: torch's own.
        share: of the time of all operators, without those that it calls.
        calls: a step.
    """

    name: str
    share: float
    calls: float


@dataclass(frozen=True)
class StepSpeed:
    """A training step, timed.

    Attributes:
        batch_size: pairs of a step.
        target_tokens: of a step, mean over `STEPS` steps; the other numbers are means over the same ones.
        read_tokens: source tokens.
        seconds: of a step.
        parts: seconds of each part, with a wait for the device after each.
        flops: of a step, forward and backward, matrix products alone.
        peak: what the FLOP/s are a share of.
        products: FLOP/s of a matrix product, by precision, timed between the steps on as many threads; none
            where the peak is known.
        threads: of the CPU.
        operators: those that took longest, the longest first.
    """

    batch_size: int
    target_tokens: float
    read_tokens: float
    seconds: TimingQuartiles
    parts: dict[str, float]
    flops: float
    peak: Peak
    products: dict[str, float]
    threads: int
    operators: list[Operator]

    @property
    def tokens_per_s(self) -> float:
        """Target tokens a second, as training logs them."""
        return self.target_tokens / self.seconds.median

    @property
    def flops_per_s(self) -> float:
        """Floating-point operations a second."""
        return self.flops / self.seconds.median

    @property
    def share_of_peak(self) -> float:
        """FLOP/s over the peak's."""
        return self.flops_per_s / self.peak.flops_per_s


def measure_step(
    objective: Objective,
    batches: Batches,
    config: Config,
    hardware: Hardware,
    seconds: float,
    clock: Clock = time.perf_counter,
) -> StepSpeed:
    """Time training steps on a copy of the objective.

    Args:
        objective: what is trained; it stays as it is.
        batches: of the run's data.
        config: of the run.
        hardware: where to train.
        seconds: how long to measure.
        clock: tells seconds.
    """
    flops = count_flops(_steps(Trial(objective, batches, config, hardware)))
    trial = Trial(objective, batches, config, hardware, compiled=hardware.compile)
    parts = PartClock(hardware.synchronize, clock)
    known = peak_flops(hardware)
    products = {} if known is not None else _products(hardware)
    actions: dict[str, Callable[[], object]] = {
        "steps": _steps(trial),
        "parts": _steps(trial, parts.start, parts.done),
    }
    actions |= {precision: action for precision, (action, _) in products.items()}
    times = in_turns(actions, seconds, hardware.synchronize, clock)
    rates = {name: flop / TimingQuartiles.of(times[name]).median for name, (_, flop) in products.items()}
    seen = [batch for number in range(STEPS) for batch in batches.at(number)[:1]]
    return StepSpeed(
        batch_size=config.training.batch_size,
        target_tokens=sum(float(batch.n_target_tokens) for batch in seen) / STEPS,
        read_tokens=sum(float(batch.n_read_tokens) for batch in seen) / STEPS,
        seconds=TimingQuartiles.of([taken / STEPS for taken in times["steps"]]),
        parts=parts.a_step(STEPS),
        flops=flops / STEPS,
        peak=Peak(rates[hardware.precision] if known is None else known, measured=known is None),
        products=rates,
        threads=hardware.threads,
        operators=top_operators(_steps(trial), hardware, STEPS),
    )


class PartClock:
    """Adds up how long each part of a step takes."""

    def __init__(self, synchronize: Callable[[], None], clock: Clock) -> None:
        self.synchronize, self.clock = synchronize, clock
        self.taken: list[dict[str, float]] = []
        self._last = 0.0

    def start(self) -> None:
        """Begin a row of steps."""
        self.taken.append(dict.fromkeys(PARTS, 0.0))
        self._last = self.clock()

    def done(self, part: str) -> None:
        """A part is over: the time since the one before is its."""
        self.synchronize()
        now = self.clock()
        self.taken[-1][part] += now - self._last
        self._last = now

    def a_step(self, steps: int) -> dict[str, float]:
        """Median seconds of each part of a step, over rows of `steps` but the first, which warms up."""
        return {
            part: TimingQuartiles.of([row[part] / steps for row in self.taken[1:]]).median for part in PARTS
        }


def top_operators(action: Callable[[], object], hardware: Hardware, steps: int) -> list[Operator]:
    """Profile an action of so many steps and return the operators that took longest by themselves."""
    on_device = hardware.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_device else [])]
    with _quiet(), profile(activities=activities) as found:
        action()
        hardware.synchronize()
    times = [
        (event.key, event.self_device_time_total if on_device else event.self_cpu_time_total, event.count)
        for event in found.key_averages()
        if event.device_type == DeviceType.CPU  # an operator's kernels count as its own device time
    ]
    total = sum(taken for _, taken, _ in times)
    longest = sorted(times, key=lambda row: row[1], reverse=True)[:TOP]
    return [Operator(name, taken / total, calls / steps) for name, taken, calls in longest if taken > 0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the profiler's own lines, which it writes past Python, off the standard error."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _steps(
    trial: Trial, start: Callable[[], None] = lambda: None, done: Callable[[str], None] = lambda part: None
) -> Callable[[], None]:
    """An action of `STEPS` steps."""

    def action() -> None:
        start()
        for number in range(STEPS):
            trial.step(number, done)

    return action


def _products(hardware: Hardware) -> dict[str, tuple[Callable[[], object], int]]:
    """Some matrix products and their operations, in float32, the chosen precision and, where fast, bf16."""
    fast = ["bf16"] if fast_bf16(hardware.device) else []
    found: dict[str, tuple[Callable[[], object], int]] = {}
    for precision in dict.fromkeys(["fp32", hardware.precision, *fast]):
        product, flops = matrix_product(replace(hardware, precision=precision))
        found[precision] = (partial(_repeat, product), PRODUCTS * flops)
    return found


def _repeat(product: Callable[[], object]) -> None:
    for _ in range(PRODUCTS):
        product()
