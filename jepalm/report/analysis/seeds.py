"""Runs that repeat one recipe with other seeds, and the spread of a metric over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jepalm.config import flatten
from jepalm.report.analysis.paired import MeanStd
from jepalm.report.read import Series

SEED = "training.seed"


def group_by_recipe(configs: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Gather the places of configs that differ only in their seed, in the order in which they came.

    A seed that a group already has begins another group: the same run twice says nothing about chance.
    """
    groups: list[tuple[dict[str, str], set[str], list[int]]] = []
    for place, config in enumerate(configs):
        recipe = {key: repr(value) for key, value in flatten(config)}
        seed = recipe.pop(SEED, "")
        for other, seeds, places in groups:
            if other == recipe and seed not in seeds:
                seeds.add(seed)
                places.append(place)
                break
        else:
            groups.append((recipe, {seed}, [place]))
    return [places for _, _, places in groups]


def mean_std(values: Iterable[float | None]) -> MeanStd | None:
    """Return mean and sample standard deviation of the finite values, None without any."""
    return MeanStd.of([value for value in values if value is not None and np.isfinite(value)])


def mean_curve(curves: Sequence[Series]) -> tuple[Series, NDArray[np.float64]]:
    """Return the mean of several curves at the steps that all have, and their standard deviation there.

    Returns:
        The mean over K curves, and the sample standard deviation (N,); zeros of a single curve.
    """
    steps = curves[0].step
    for curve in curves[1:]:
        steps = np.intersect1d(steps, curve.step)
    values = np.stack([curve.value[np.isin(curve.step, steps)] for curve in curves])  # (K, N)
    deviation = values.std(0, ddof=1) if len(curves) > 1 else np.zeros(len(steps))
    return Series(steps, values.mean(0)), deviation
