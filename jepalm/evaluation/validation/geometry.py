"""Where predicted embeddings lie: nearer to their own target than to others, near enough for the decoder?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

TOLERATED_ACCURACY = 0.99
_QUERIES_AT_ONCE = 1024
_NO_SIGMA, _SMALLEST_SIGMA, _LARGEST_SIGMA = 2.0**-20, 2.0**-7, 2.0**7


def paired_minus_unpaired_cosine(queries: Tensor, candidates: Tensor) -> Tensor:
    """How much nearer each query is to its own candidate than to the mean of the others.

    Plain cosines mislead: embeddings share a common direction, so strangers are near too.

    Args:
        queries: (N, D), such as the mean predicted embedding of each passage; N is at least 2.
        candidates: (N, D), such as the mean target embedding of each passage.

    Returns:
        (N,) cosine with the own candidate minus the mean cosine with all others; 0 when the queries do
        not tell their candidates apart.
    """
    q, c = _directions(queries), _directions(candidates)
    paired = (q * c).sum(-1)  # (N,)
    return paired - (q @ c.sum(0) - paired) / (len(q) - 1)


def retrieval_at_1(queries: Tensor, candidates: Tensor, labels: Sequence[int]) -> NDArray[np.bool_]:
    """Whether the candidate nearest by cosine is the query's own, or has the same text, (N,).

    Args:
        queries: (N, D), such as the mean predicted embedding of each passage.
        candidates: (N, D), such as the mean target embedding of each passage.
        labels: (N,) equal for candidates with the same text, any of which is right.
    """
    q, c = _directions(queries), _directions(candidates)
    label = torch.as_tensor(labels, device=q.device)
    nearest = torch.cat([(rows @ c.T).argmax(-1) for rows in q.split(_QUERIES_AT_ONCE)])
    right: NDArray[np.bool_] = (label[nearest] == label).cpu().numpy()
    return right


def retrieval_chance(labels: Sequence[int]) -> float:
    """Retrieval@1 of a query that picks any candidate: the chance that two have the same text."""
    share = np.unique(np.asarray(labels), return_counts=True)[1] / len(labels)
    return float((share**2).sum())


def tolerance(accuracy: Callable[[float], float], threshold: float = TOLERATED_ACCURACY) -> float:
    """The standard deviation of noise at which accuracy falls under the threshold.

    Doubles the noise until accuracy is under the threshold, then bisects to 1 %.

    Args:
        accuracy: accuracy at a standard deviation of noise. It has to use the same draws, scaled, at
            every call, so that the answer is reproducible and accuracy falls smoothly.
        threshold: share of right tokens.

    Returns:
        0 when accuracy is under the threshold without noise, infinity when it never falls under it.
    """
    if accuracy(0.0) < threshold:
        return 0.0
    low, high = 0.0, _SMALLEST_SIGMA
    while accuracy(high) >= threshold:
        if high >= _LARGEST_SIGMA:
            return float("inf")
        low, high = high, 2 * high
    while high - low > 0.01 * high and high > _NO_SIGMA:
        middle = (low + high) / 2
        low, high = (middle, high) if accuracy(middle) >= threshold else (low, middle)
    return (low + high) / 2


def _directions(rows: Tensor) -> Tensor:
    """(N, D) rows of length 1, in float64."""
    return F.normalize(rows.double(), dim=-1)
