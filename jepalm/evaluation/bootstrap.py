"""Bootstrap intervals of ratios of sums, such as nats over characters: what is drawn again is prompts.

`scipy.stats.bootstrap` draws anew for each statistic and gathers every value; here all metrics of the same
prompts share one table of draws, so that differences are paired and a metric costs two matrix products.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1000
LEVEL = 0.95

Interval = tuple[float, float]


def resampled(
    numerators: ArrayLike, denominators: ArrayLike | None = None, *, seed: int, n: int = RESAMPLES
) -> NDArray[np.float64]:
    """The ratio of sums over prompts, for n draws of as many prompts with replacement.

    Two metrics of the same prompts with the same seed get the same draws, so that their difference is a
    paired one.

    Args:
        numerators: (N,) one a prompt.
        denominators: (N,) one a prompt; all 1, which makes the ratio a mean, when empty.
        seed: of the draws.
        n: number of draws.

    Returns:
        (n,) ratios; NaN where the denominators of a draw add up to 0.
    """
    above = np.asarray(numerators, np.float64)
    below = np.ones(len(above)) if denominators is None else np.asarray(denominators, np.float64)
    times = _times_drawn(len(above), seed, n)
    return ratio(times @ above, times @ below)


@functools.lru_cache(maxsize=4)
def _times_drawn(size: int, seed: int, n: int) -> NDArray[np.int64]:
    """How often each of `size` prompts stands in each of n draws, (n, size); all metrics share it."""
    return np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=n)


def percentile_interval(draws: NDArray[np.float64], level: float = LEVEL) -> Interval | None:
    """The central `level` of the draws (Efron 1979), or None where no draw is finite."""
    finite = draws[np.isfinite(draws)]
    if not len(finite):
        return None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> NDArray[np.float64]:
    """Element by element, NaN instead of a division by 0."""
    above, below = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below != 0)
