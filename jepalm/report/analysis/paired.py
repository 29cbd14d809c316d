"""Paired comparison of two rows that were trained under the same seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class MeanStd:
    """Mean over seeds and sample standard deviation (n - 1); one seed has none."""

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> MeanStd | None:
        """Of any number of values; None of none."""
        if not values:
            return None
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return cls(float(np.mean(values)), sd, len(values))


@dataclass(frozen=True)
class Difference:
    """Mean difference over seeds, with the paired t-test of Student (1908).

    Attributes:
        mean: of the differences seed by seed.
        low: lower end of its 95 % interval; None with fewer than two common seeds.
        high: upper end.
        p: two-sided; None with fewer than two common seeds.
        n: seeds that both have.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    n: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def paired_difference(values: Mapping[int, float], reference: Mapping[int, float]) -> Difference | None:
    """Compare two rows over the seeds that both have.

    The test and its interval are `scipy.stats.ttest_rel`. Differences that are all the same leave no doubt:
    p is 0, or 1 where they are 0.

    Args:
        values: metric by seed.
        reference: the same metric of the reference by seed.

    Returns:
        None without a common seed.
    """
    common = [seed for seed in values if seed in reference]
    spread = MeanStd.of([values[seed] - reference[seed] for seed in common])
    if spread is None:
        return None
    mean, n = spread.mean, spread.n
    if spread.sd is None:
        return Difference(mean, None, None, None, n)
    if spread.sd == 0:
        return Difference(mean, mean, mean, float(mean == 0), n)
    from scipy.stats import ttest_rel  # for several seeds alone: it takes a while to load

    test = ttest_rel([values[seed] for seed in common], [reference[seed] for seed in common])
    low, high = test.confidence_interval(CONFIDENCE)
    return Difference(mean, float(low), float(high), float(test.pvalue), n)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Correct p values for their number (Holm 1979).

    The k-th smallest of m is multiplied by m - k + 1, at most 1 and never falling. None is not counted.
    """
    order = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    corrected: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[place] = largest
    return corrected
