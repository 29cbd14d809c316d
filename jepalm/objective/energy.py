"""The energy score: a distance between samples of a prediction and samples of its target.

Gneiting and Raftery 2007 ("Strictly Proper Scoring Rules, Prediction, and Estimation", eq. 22), with the
sign of a loss; CALM (arXiv 2510.27688) trains with it. In expectation it is least where the samples are
distributed as the targets are, for exponents below 2; at 2 every distribution with the right mean is as good.

A sum over positions would ask for the right distribution of each position alone. Distances are therefore
between windows: several positions in a row as one vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from jepalm.model.layout import at_least_float32

Window = int | Literal["all"]

NEAREST = 1e-12
"""Mean squared difference under which two windows are the same: their distance is 0, without a gradient."""


@dataclass(frozen=True)
class EnergyScore:
    """The two parts of each text's score.

    Attributes:
        to_target: (B,) mean distance of samples to targets.
        between: (B,) mean distance between two samples.
    """

    to_target: Tensor
    between: Tensor

    @property
    def total(self) -> Tensor:
        """2 E|y - x| - E|x - x'|, (B,): the lower the better."""
        return 2 * self.to_target - self.between


def energy_score(
    samples: Tensor,
    targets: Tensor,
    text: Tensor,
    windows: Sequence[Window],
    exponent: float = 1.0,
    hidden: Tensor | None = None,
) -> EnergyScore:
    """Score the samples of each text, mean over its windows of each width and over the widths.

    The distance of two windows is their root mean squared difference, over positions and dimensions, to the
    power of the exponent: the length of the difference of the concatenated embeddings over
    sqrt(positions * D).

    Args:
        samples: (N, B, T, D) predicted embeddings, N of 2 or more.
        targets: (M, B, T, D) target embeddings.
        text: (B, T) bool, true where there is text.
        windows: how many positions are compared jointly. So many in a row are a window, from every position
            on; a text that is shorter is one window, as it is with `all`.
        exponent: of the distance, above 0.
        hidden: (B, T) bool, positions that count where not all do; a window of none is no window.

    Returns:
        the parts of each text's score; 0 where nothing counts.
    """
    counted = text if hidden is None else text & hidden  # (B, T)
    samples, targets = at_least_float32(samples), at_least_float32(targets)
    one, other = torch.triu_indices(len(samples), len(samples), 1, device=samples.device)
    to_target = squared_difference(samples[:, None], targets).flatten(0, 1)  # (N * M, B, T)
    between = squared_difference(samples[one], samples[other])  # (N (N - 1) / 2, B, T)

    def mean_distance(squares: Tensor) -> Tensor:
        each = [window_distance(squares, text, counted, window, exponent) for window in windows]
        return torch.stack(each).mean((0, 1))  # (B,)

    return EnergyScore(mean_distance(to_target), mean_distance(between))


def squared_difference(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared difference of each position's embeddings: two of (..., D) to (...)."""
    return (one - other).square().mean(-1)


def window_distance(
    squares: Tensor, text: Tensor, counted: Tensor, window: Window, exponent: float
) -> Tensor:
    """Mean distance over the windows of one width.

    Args:
        squares: (C, B, T) squared difference at each position, of C comparisons.
        text: (B, T) bool.
        counted: (B, T) bool, positions of the text that count.
        window: positions of a window.
        exponent: of the distance.

    Returns:
        (C, B), 0 where nothing counts.
    """
    longest = text.shape[1]
    width = longest if window == "all" else min(window, longest)
    starts = torch.arange(longest - width + 1, device=text.device)
    inside = (starts + width <= text.sum(1, keepdim=True)) | (starts == 0)  # (B, W)
    held = counted.to(squares.dtype)  # (B, T)
    numbers = held.unfold(-1, width, 1).sum(-1) * inside  # (B, W)
    sums = (squares * held).unfold(-1, width, 1).sum(-1)  # (C, B, W)
    distances = power(sums / numbers.clamp(min=1), exponent) * (numbers > 0)  # (C, B, W)
    return distances.sum(-1) / (numbers > 0).sum(-1).clamp(min=1)


def power(squares: Tensor, exponent: float) -> Tensor:
    """Distances to the power of the exponent, of squared ones (...); no gradient where two are the same."""
    same = squares < NEAREST
    return squares.masked_fill(same, 1.0).pow(exponent / 2).masked_fill(same, 0.0)


@contextmanager
def same_draws(device: torch.device) -> Iterator[None]:
    """Context of random numbers that are the same every time, and leave those outside as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield
