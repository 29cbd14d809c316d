"""What the log points of a run say: composition of the loss, means over epochs, pace.

Pure functions of a RunRecord. The rules are explained in docs/report.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jepalm.report.analysis.article import ARTICLE_PARAMETERS, ARTICLE_SECONDS, ARTICLE_STEPS
from jepalm.report.analysis.phases import PhaseRecord
from jepalm.report.read import RunRecord, Series, number

HALF_EPOCH = 0.5
"""Least share of an epoch's batches for its mean to count."""
MOVING_AVERAGE = 20
"""Batches of the article's moving average."""
CURVE_POINTS = 60
"""Smoothed curves average about this fraction of the run's log points."""


@dataclass(frozen=True)
class StepMean:
    """The mean of a series over some steps, both ends included."""

    first: int
    last: int
    mean: float


@dataclass(frozen=True)
class Speed:
    """How long the run took."""

    seconds: float | None
    steps: int
    steps_per_second: float | None
    times_article: float | None
    """Steps a second over the article's."""
    same_size: bool
    """Whether the model has the article's parameters, to 5 %."""


def shares(record: RunRecord) -> dict[str, Series]:
    """Return each term's share of the loss at each log point.

    A log point without `train/share/...` gets it from its weighted terms.
    """
    values: dict[str, dict[int, float]] = {term: {} for term in record.terms}
    for point in record.train:
        found = {term: number(point.get(f"train/share/{term}")) for term in record.terms}
        if all(share is None for share in found.values()):
            found = _shares_from_terms(record, point)
        for term, share in found.items():
            if share is not None and np.isfinite(share):
                values[term][point["step"]] = share
    return {term: Series.of(known) for term, known in values.items() if known}


def composition(record: RunRecord, phase: PhaseRecord | None) -> dict[str, float]:
    """Return the mean share of each term over a phase; each log point counts its steps."""
    if phase is None:
        return {}
    result = {}
    for term, series in shares(record).items():
        inside = (series.step >= phase.first) & (series.step <= phase.last)
        if inside.any():
            covered = np.diff(series.step, prepend=min(0, int(series.step[0]) - 1))
            result[term] = float(np.average(series.value[inside], weights=covered[inside]))
    return result


def term_series(record: RunRecord, term: str) -> Series:
    """Return a term's raw value per batch, or its log-point means where batches were not written."""
    batches = record.batches.get(term)
    return batches if batches is not None and len(batches) else record.series(f"train/term/{term}")


def moving_average(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the trailing mean of the last `window` values; shorter at the start.

    Args:
        values: shape (N,); values that are not finite are left out of the means.
        window: number of values, at least 1.
    """
    good = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(good, values, 0.0))])
    seen = np.concatenate([[0], np.cumsum(good)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(0, end - window)
    counted = seen[end] - seen[start]
    mean = (total[end] - total[start]) / np.maximum(counted, 1)
    return np.where(counted > 0, mean, np.nan)


def smooth(series: Series) -> Series:
    """Return a curve averaged over about a 60th of its points, for plots."""
    return Series(series.step, moving_average(series.value, max(1, len(series) // CURVE_POINTS)))


def epoch_means(record: RunRecord, term: str) -> dict[int, StepMean]:
    """Return the mean of a term over each epoch (counted from 1) that has half of its batches or more."""
    epoch, series = record.steps_per_epoch, term_series(record, term).finite()
    if epoch is None or not len(series):
        return {}
    per_batch = term in record.batches
    expected = epoch if per_batch else epoch / max(1, int(np.median(np.diff(series.step, prepend=0))))
    number_of = (series.step - 1) // epoch + 1
    result = {}
    for k in sorted(set(number_of.tolist())):
        inside = number_of == k
        if inside.sum() >= HALF_EPOCH * expected:
            steps = series.step[inside]
            result[int(k)] = StepMean(int(steps[0]), int(steps[-1]), float(series.value[inside].mean()))
    return result


def variation(values: NDArray[np.float64]) -> float | None:
    """Return the standard deviation over the mean, or None without two values and a mean."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2 or finite.mean() == 0:
        return None
    return float(finite.std() / abs(finite.mean()))


def squared_embedding(record: RunRecord) -> bool:
    """Whether the embedding term is a squared distance, which R2 and the article's figures are about."""
    return (record.setting("objective.embedding.distance") or "mse") == "mse"


def mean_distance(record: RunRecord) -> tuple[float | None, str]:
    """Return the distance of predicting the mean target, and how it is known.

    Measured at validation; with normalised targets, predicting zero scores `dim`.
    """
    measured = record.series("validation/embedding_mean").finite().last
    if measured is not None:
        return measured, "the distance of predicting the mean (validation)"
    free = number(record.setting("objective.kl.weight"))  # the scale of a variational encoder is its own
    if record.dim and record.setting("model.encoder.normalisation") == "layernorm" and not free:
        return float(record.dim), "the distance of predicting zero (normalised targets)"
    return None, ""


def copy_control(record: RunRecord) -> Series:
    """R2 that a copy of the source embedding would score against the mean target (validation)."""
    mean = record.series("validation/embedding_mean").finite()
    known = dict(zip(mean.step.tolist(), mean.value.tolist(), strict=True))
    copied = record.series("validation/embedding_copy").finite()
    pairs = zip(copied.step.tolist(), copied.value.tolist(), strict=True)
    return Series.of({step: 1 - value / known[step] for step, value in pairs if known.get(step)})


def speed(record: RunRecord) -> Speed:
    """Return time and pace: the manifest's seconds, else the last log point's time."""
    seconds = number(record.manifest.get("seconds"))
    if not seconds:
        seconds = record.series("train/loss").last and number(record.train[-1].get("time"))
    steps = record.step
    pace = steps / seconds if seconds and seconds > 0 and steps else None
    if pace is None:
        logged = record.series("speed/steps_per_s").finite()
        pace = float(np.median(logged.value)) if len(logged) else None
    total = parameters(record).get("total")
    same_size = total is not None and abs(total / ARTICLE_PARAMETERS - 1) <= 0.05
    times = pace / (ARTICLE_STEPS / ARTICLE_SECONDS) if pace else None
    return Speed(seconds or None, steps, pace, times, same_size)


def parameters(record: RunRecord) -> dict[str, float]:
    """Return the parameter counts of the manifest."""
    given = record.manifest.get("parameters")
    if isinstance(given, Mapping):
        return {str(part): size for part, value in given.items() if (size := number(value)) is not None}
    total = number(given)
    return {} if total is None else {"total": total}


def _shares_from_terms(record: RunRecord, point: Mapping[str, object]) -> dict[str, float | None]:
    weighted: dict[str, float] = {}
    for term in record.terms:
        value = number(point.get(f"train/term/{term}"))
        weight = number(point.get(f"train/weight/{term}"))
        if weight is None:
            weight = number(record.setting(f"objective.{term}.weight"))
        if value is not None:
            weighted[term] = abs(value * (1.0 if weight is None else weight))
    total = sum(weighted.values())
    return {term: value / total if total else None for term, value in weighted.items()}
