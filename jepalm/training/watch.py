"""What a loss may do wrong: it is not finite, or it jumps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from jepalm.training.metrics import StepValues

MOST_ROLLBACKS = 3
"""With `training.on_nonfinite: rollback`: a loss that is not finite once more stops the run."""
SPIKE_WINDOW = 100
"""Steps whose losses the next one is compared with."""
FEWEST_BEFORE = 50
"""With fewer steps before it in its phase a step is no spike."""
SPIKE_DEVIATIONS = 10.0
"""Median absolute deviations over the median; of a normal distribution 6.7 standard deviations."""
SPIKE_SHARE = 0.5
"""Of the median's magnitude: what a spike rises at least, where the losses hardly differ."""


@dataclass(frozen=True)
class Fault:
    """A step that left something not finite.

    Attributes:
        place: the step, counted from 0 of those looked at.
        what: in words, of which the step's number is the end.
        values: loss and terms of the step, in words.
    """

    place: int
    what: str
    values: str


def fault_of(seen: StepValues, objective: nn.Module) -> Fault | None:
    """The first of some steps whose loss is not finite, or the last if its update left weights so."""
    place = seen.first_not_finite()
    if place is not None:
        return Fault(place, "the loss of step", seen.describe(place))
    weights = nn.utils.get_total_norm([p.detach() for p in objective.parameters()])
    if bool(torch.isfinite(weights)):
        return None
    place = len(seen.raw) - 1
    return Fault(place, "what is learned in step", seen.describe(place))


@dataclass(frozen=True)
class Spike:
    """A step whose loss lies far above those before it.

    Attributes:
        place: the step, counted from 0 of those looked at.
        loss: its loss.
        median: of the losses before it.
    """

    place: int
    loss: float
    median: float


def highest_spike(before: Sequence[float], losses: Sequence[float]) -> Spike | None:
    """The step that jumps most among some, if one does.

    A loss is a spike if it lies above the median of the `SPIKE_WINDOW` losses before it by more than
    `SPIKE_DEVIATIONS` times their median absolute deviation from it, and by more than `SPIKE_SHARE` of it.

    Args:
        before: losses of the phase's steps before, the newest last; `SPIKE_WINDOW` are enough.
        losses: of the steps to look at.
    """
    known = [*before, *losses]
    found: list[Spike] = []
    for place, loss in enumerate(losses):
        window = known[: len(before) + place][-SPIKE_WINDOW:]
        if len(window) < FEWEST_BEFORE:
            continue
        median = float(np.median(window))
        deviation = float(np.median(np.abs(np.subtract(window, median))))
        if loss - median > max(SPIKE_DEVIATIONS * deviation, SPIKE_SHARE * abs(median)):
            found.append(Spike(place, loss, median))
    return max(found, key=lambda spike: spike.loss - spike.median, default=None)
