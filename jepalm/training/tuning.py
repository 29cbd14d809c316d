"""The fastest precision and thread count on this CPU, found by timing a few training steps.

What a processor can do does not tell what is fast: bf16 autocast pays for casts that small shapes never earn
back, and two threads on cores that are not free wait for each other at every operation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from statistics import fmean

import torch

from jepalm.config import Config
from jepalm.data.batches import Batches
from jepalm.hardware import Hardware, fast_bf16
from jepalm.objective import Objective
from jepalm.training.trial import Trial

SECONDS_A_CHOICE = 0.6
"""How long the steps of one choice are timed; at least two, after one that does not count."""
THREADS_MUST_GAIN = 1.5
"""What more threads have to gain over one: should another program want a core later, they lose far more."""
PROBES, PROBE_SIZE = 40, 1 << 16
"""Parallel operations, and their elements, by which cores that are not free are noticed."""


@dataclass(frozen=True)
class TimedChoice:
    """One combination, timed.

    Attributes:
        precision: of the matrix products.
        threads: of the CPU.
        seconds: mean over the timed steps; None where it was not tried, since the cores are not free.
    """

    precision: str
    threads: int
    seconds: float | None


def tune(
    objective: Objective, batches: Batches, config: Config, hardware: Hardware
) -> tuple[Hardware, list[TimedChoice]]:
    """Choose precision and threads on a CPU, each where the config leaves it open.

    What is learned does not depend on the choice beyond rounding. Sets torch's thread count to the choice.

    Returns:
        the hardware with the choice, and what was timed; nothing where there is nothing to choose.
    """
    asked, cpu = config.hardware, hardware.device.type == "cpu"
    bf16 = cpu and asked.precision == "auto" and fast_bf16(hardware.device)
    precisions = ["fp32", "bf16"] if bf16 else [hardware.precision]
    open_threads = cpu and asked.threads is None and hardware.threads > 1
    threads = [1, hardware.threads] if open_threads else [hardware.threads]
    if len(precisions) * len(threads) == 1:
        return hardware, []

    def seconds_of(precision: str) -> float:
        trial = Trial(objective, batches, config, replace(hardware, precision=precision))
        return mean_seconds(trial.step)

    timed = []
    for number in threads:
        torch.set_num_threads(number)
        free = number == 1 or len(threads) == 1 or cores_are_free()
        timed += [
            TimedChoice(precision, number, seconds_of(precision) if free else None)
            for precision in precisions
        ]
    best = fastest(timed)
    torch.set_num_threads(best.threads)
    return replace(hardware, precision=best.precision, threads=best.threads), timed


def fastest(timed: Iterable[TimedChoice]) -> TimedChoice:
    """The choice with the lowest mean; more threads than one only where they gain `THREADS_MUST_GAIN`.

    A mean, not a median: a choice with some steps that take very long loses by them.
    """
    tried = {choice: choice.seconds for choice in timed if choice.seconds is not None}
    best = min(tried, key=lambda choice: tried[choice])
    alone = [choice for choice in tried if choice.threads == 1]
    if best.threads > 1 and alone:
        single = min(alone, key=lambda choice: tried[choice])
        return best if tried[single] >= THREADS_MUST_GAIN * tried[best] else single
    return best


def mean_seconds(step: Callable[[int], None], clock: Callable[[], float] = time.perf_counter) -> float:
    """Mean seconds of a step, over two at least, after one that does not count.

    Args:
        step: does the step of a number, from 0.
        clock: tells seconds.
    """
    step(0)
    times: list[float] = []
    while len(times) < 2 or sum(times) < SECONDS_A_CHOICE:
        start = clock()
        step(len(times) + 1)
        times.append(clock() - start)
    return fmean(times)


def cores_are_free(clock: Callable[[], float] = time.perf_counter) -> bool:
    """Whether operations on several threads are about as fast as on one, or faster.

    A few cheap operations tell before a whole step, which takes seconds where threads wait for a core.
    """
    x, threads = torch.ones(PROBE_SIZE), torch.get_num_threads()

    def seconds(number: int) -> float:
        torch.set_num_threads(number)
        x.add(1.0)
        start = clock()
        for _ in range(PROBES):
            x.add(1.0)
        return clock() - start

    alone, together = seconds(1), seconds(threads)
    return together < 2 * alone
