"""Times that compare on a machine that others use too: in turns, in one process, as quartiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import quantiles

Clock = Callable[[], float]

LEAST_ROUNDS = 3


@dataclass(frozen=True)
class TimingQuartiles:
    """A time, or a ratio of times, that was measured several times.

    Attributes:
        median: of the measurements.
        low: a quarter of the measurements lie below it.
        high: a quarter lie above it.
        n: measurements.
    """

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: list[float]) -> TimingQuartiles:
        """Summarise two measurements or more."""
        low, middle, high = quantiles(values, n=4, method="inclusive")
        return cls(middle, low, high, len(values))


def in_turns(
    actions: Mapping[str, Callable[[], object]],
    seconds: float,
    synchronize: Callable[[], None],
    clock: Clock = time.perf_counter,
    *,
    least: int = LEAST_ROUNDS,
) -> dict[str, list[float]]:
    """Time actions in turns, A B A B ..., so that what slows the machine down slows them alike.

    Args:
        actions: what to time; each is done once before, untimed.
        seconds: no round begins after as many, once there were `least` rounds.
        synchronize: waits until what an action asked of the device is done.
        clock: tells seconds.
        least: rounds, two or more.

    Returns:
        seconds of each action, a number a round.
    """
    for action in actions.values():
        action()
    times: dict[str, list[float]] = {name: [] for name in actions}
    begin, rounds = clock(), 0
    while rounds < least or clock() - begin < seconds:
        for name, action in actions.items():
            synchronize()
            start = clock()
            action()
            synchronize()
            times[name].append(clock() - start)
        rounds += 1
    return times


def ratio(above: list[float], below: list[float]) -> TimingQuartiles:
    """Ratio of times taken in turns: the rounds' own ratios, each of two neighbours in time."""
    return TimingQuartiles.of([a / b for a, b in zip(above, below, strict=True)])
