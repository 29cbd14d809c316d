"""What distances say: which next state is nearest, is an impossible one farther; and a linear probe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import mannwhitneyu

RIDGE = 1e-2
"""Weight of the probe's penalty, of standardised embeddings."""
_SMALLEST_STD = 1e-6


def nearest_is_right(right: ArrayLike, wrong: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Whether the right candidate of each question is nearer than all wrong ones, (N,); a tie is not right.

    Args:
        right: (N,) distances of the right candidates.
        wrong: distances of each question's wrong candidates, at least one.
    """
    pairs = zip(np.asarray(right), wrong, strict=True)
    return np.array([float(own < np.min(others)) for own, others in pairs])


def auc(wrong: ArrayLike, right: ArrayLike) -> float:
    """The probability that a wrong one is farther than a right one, ties half (Mann and Whitney 1947).

    The area under the receiver operating characteristic; NaN where there is none of a kind.
    """
    if not np.size(wrong) or not np.size(right):
        return float("nan")
    test = mannwhitneyu(wrong, right, method="asymptotic")  # its p value is not read
    return float(test.statistic / np.size(wrong) / np.size(right))


class Probe:
    """Linear classifier by ridge regression onto one-hot labels, in closed form (Hoerl and Kennard 1970).

    Args:
        rows: (N, D) embeddings to learn from.
        labels: (N,) the class of each.
    """

    def __init__(self, rows: NDArray[np.float64], labels: Sequence[str]) -> None:
        self.classes, numbers, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
        self.majority = str(self.classes[counts.argmax()])
        self._mean, self._std = rows.mean(0), np.maximum(rows.std(0), _SMALLEST_STD)
        x = (rows - self._mean) / self._std  # (N, D)
        y = np.eye(len(self.classes))[numbers]  # (N, C)
        self._bias = y.mean(0)  # (C,)
        penalty = RIDGE * len(x) * np.eye(x.shape[1])
        self._weights = np.linalg.solve(x.T @ x + penalty, x.T @ (y - self._bias))  # (D, C)

    def __call__(self, rows: NDArray[np.float64]) -> NDArray[np.str_]:
        """The likeliest class of each row, (N, D) to (N,)."""
        scores = (rows - self._mean) / self._std @ self._weights + self._bias  # (N, C)
        found: NDArray[np.str_] = self.classes[scores.argmax(-1)]
        return found
