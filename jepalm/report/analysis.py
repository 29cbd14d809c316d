"""What the rows of a run say: stable phase, composition, the article's three findings.

Pure functions of a RunRecord. The rules are explained in docs/report.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jepalm.numbers import three
from jepalm.report.numbers import change, percent
from jepalm.report.read import RunRecord, Series, number

ARTICLE_SECONDS = 8.6 * 3600
ARTICLE_STEPS = 25_000
ARTICLE_PARAMETERS = 10_100_000
ARTICLE_DEVICE = "A100 80GB"
ARTICLE_COMPOSITION: Mapping[str, float] = {"reconstruction": 0.0, "embedding": 0.575, "length": 0.425}

CE_STEP = 500
"""The article's step for reconstruction CE."""
CE_WINDOW = 25
"""Batches averaged there."""
CE_SOLVED = 0.05
"""Reconstruction CE, in nats, below which the text is read back without faults."""
EMBEDDING_FALL = 0.05
"""Least fall of the embedding distance, first to last epoch."""
EMBEDDING_UNSOLVED = 0.5
"""Share of the predicting-the-mean distance that must remain."""
HALF_EPOCH = 0.5
"""Least share of an epoch's batches for its mean to count."""
LENGTH_RATIO = 10.0
"""99th over 1st percentile of the per-batch length loss."""
LENGTH_VARIATION = 0.3
"""Standard deviation over mean of the per-batch length loss."""
LENGTH_SETTLED = 0.5
"""Last over first quarter of the stable phase, at or under which the length loss has settled."""
LENGTH_BATCHES = 100
"""Fewest batches of the stable phase to judge the length loss."""
MOVING_AVERAGE = 20
"""Batches of the article's moving average."""

Word = Literal["reproduced", "not reproduced", "cannot tell"]


@dataclass(frozen=True)
class Phase:
    """A stretch of steps, both ends included, and why it was chosen."""

    first: int
    last: int
    why: str

    @property
    def text(self) -> str:
        """The steps in words."""
        return f"steps {self.first:,} to {self.last:,}"


@dataclass(frozen=True)
class Finding:
    """One of the article's findings on this run."""

    number: int
    title: str
    measured: str
    """In words, with what it was measured on."""
    article: str
    word: Word
    why: str
    values: Mapping[str, float | None]

    @property
    def verdict(self) -> str:
        """The word, with what is missing when it cannot tell."""
        return f"{self.word} ({self.why})" if self.word == "cannot tell" else self.word


@dataclass(frozen=True)
class Span:
    """The mean of a stretch of a series."""

    first: int
    last: int
    mean: float


def stable_phase(record: RunRecord) -> Phase | None:
    """Return the steps after the first epoch, or the second half of a run of at most one epoch."""
    recorded = [row["step"] for row in record.train]
    recorded += [int(values.step[-1]) for values in record.batches.values() if len(values)]
    if not recorded or max(recorded) < 1:
        return None
    last, epoch = max(recorded), record.steps_per_epoch
    if epoch is not None and last > epoch:
        return Phase(epoch + 1, last, "after the first epoch")
    return Phase(last // 2 + 1, last, "second half of the run, which has no second epoch")


def shares(record: RunRecord) -> dict[str, Series]:
    """Return each term's share of the loss at each log point.

    A row without `train/share/...` gets it from its weighted terms.
    """
    steps: dict[str, list[int]] = {}
    values: dict[str, list[float]] = {}
    for row in record.train:
        found = {term: number(row.get(f"train/share/{term}")) for term in record.terms}
        if all(share is None for share in found.values()):
            found = _shares_from_terms(record, row)
        for term, share in found.items():
            if share is not None and np.isfinite(share):
                steps.setdefault(term, []).append(row["step"])
                values.setdefault(term, []).append(share)
    return {
        term: Series(np.array(steps[term], dtype=np.int64), np.array(values[term], dtype=np.float64))
        for term in record.terms
        if term in steps
    }


def composition(record: RunRecord, phase: Phase | None) -> dict[str, float]:
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


def epoch_means(record: RunRecord, term: str) -> dict[int, Span]:
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
            result[int(k)] = Span(int(steps[0]), int(steps[-1]), float(series.value[inside].mean()))
    return result


def variation(values: NDArray[np.float64]) -> float | None:
    """Return the standard deviation over the mean, or None without two values and a mean."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2 or finite.mean() == 0:
        return None
    return float(finite.std() / abs(finite.mean()))


def findings(record: RunRecord, phase: Phase | None) -> list[Finding]:
    """Return the article's three findings as measured on this run."""
    return [
        reconstruction_finding(record),
        embedding_finding(record),
        length_finding(record, phase),
    ]


def reconstruction_finding(record: RunRecord) -> Finding:
    """Finding 1: reconstruction CE is about 0 by batch 500 and stays there."""
    article = "0.029 at the start, about 0 by batch 500, flat after"
    title = "reconstruction CE"
    series = term_series(record, "reconstruction").finite()
    if not len(series):
        return _untold(1, title, article, f"no reconstruction recorded; needs {CE_STEP} steps")
    per_batch = "reconstruction" in record.batches
    span = _around(series, CE_STEP, CE_WINDOW if per_batch else 1)
    reached = int(series.step[-1])
    where = (
        f"mean of steps {span.first:,} to {span.last:,}" if per_batch else f"log point of step {span.last:,}"
    )
    if reached < CE_STEP:
        where += ", the run's last"
    after = series.between(max(span.last, CE_STEP) + 1, reached)
    highest = _highest_window_mean(after, CE_WINDOW if per_batch else 1)
    measured = f"{three(span.mean)} at step {span.last:,} (train, {where})"
    if highest is not None:
        measured += f"; at most {three(highest)} after"
    word: Word
    if span.mean >= CE_SOLVED and reached < CE_STEP:
        word, why = "cannot tell", f"needs {CE_STEP} steps"
    elif span.mean >= CE_SOLVED:
        word, why = "not reproduced", f"{three(span.mean)} is not under {CE_SOLVED}"
    elif highest is not None and highest >= CE_SOLVED:
        word, why = "not reproduced", f"it rose again, to {three(highest)}"
    else:
        word, why = "reproduced", f"under {CE_SOLVED}" + (" and stays there" if highest is not None else "")
    values = {"ce": span.mean, "first_step": span.first, "last_step": span.last, "highest_after": highest}
    return Finding(1, title, measured, article, word, why, values)


def embedding_finding(record: RunRecord) -> Finding:
    """Finding 2: the embedding distance falls, yet most of it remains."""
    article = "242 to 181 (-25.3 %) over 10 epochs, sums over 256 dims; R2 about 0.05 to 0.29"
    title = "embedding distance"
    if choice(record, "embedding", "distance", "mse") != "mse":
        return _untold(2, title, article, "this run's embedding loss is not a squared distance")
    means = epoch_means(record, "embedding")
    r2 = record.series("validation/r2").finite()
    values: dict[str, float | None] = {"first": None, "last": None, "change": None, "r2": r2.last}
    if not means:
        epoch = record.steps_per_epoch
        missing = f"needs {2 * epoch:,} steps" if epoch else "no embedding distance recorded"
        return _untold(2, title, article, missing, values)
    first_epoch, last_epoch = min(means), max(means)
    first, last = means[first_epoch], means[last_epoch]
    fall = (last.mean - first.mean) / first.mean if first.mean else None
    control, named = mean_distance(record)
    values |= {"first": first.mean, "last": last.mean, "first_epoch": first_epoch, "last_epoch": last_epoch}
    values |= {"r2_first": r2.first, "predicting_the_mean": control}
    held_out = f"; held-out R2 {three(r2.first)} to {three(r2.last)}" if len(r2) else ""
    if first_epoch == last_epoch:
        measured = f"{three(first.mean)} in epoch {first_epoch} (train mean){held_out}"
        needed = 2 * (record.steps_per_epoch or 1)
        return Finding(2, title, measured, article, "cannot tell", f"needs {needed:,} steps", values)
    values["change"] = fall
    unit = f", sums over {record.dim} dims" if record.dim else ""
    measured = (
        f"{three(first.mean)} to {three(last.mean)} ({change(fall)}), "
        f"epoch {first_epoch} to {last_epoch} (train means{unit}){held_out}"
    )
    word: Word
    if fall is None or fall > -EMBEDDING_FALL:
        word, why = "not reproduced", f"it does not fall by {percent(EMBEDDING_FALL)}"
    elif control is None:
        word, why = "cannot tell", "needs a validation to know the distance of predicting the mean"
    elif last.mean <= EMBEDDING_UNSOLVED * control:
        word = "not reproduced"
        why = f"it falls under half of {named}, {three(control)}"
    else:
        word, why = "reproduced", f"it falls, yet stays over half of {named}, {three(control)}"
    return Finding(2, title, measured, article, word, why, values)


def choice(record: RunRecord, term: str, key: str, default: str) -> str:
    """Return what the run's config chose for a term; the default where the config does not say."""
    section = record.config.get("objective")
    settings = section.get(term) if isinstance(section, Mapping) else None
    found = settings.get(key) if isinstance(settings, Mapping) else None
    return str(found) if found else default


def weighting(record: RunRecord) -> str:
    """Return how the run's terms were weighted; `fixed` where the config does not say."""
    section = record.config.get("objective")
    found = section.get("weighting") if isinstance(section, Mapping) else None
    return str(found) if found else "fixed"


def length_finding(record: RunRecord, phase: Phase | None) -> Finding:
    """Finding 3: the length loss swings from batch to batch and does not settle."""
    article = "0 to over 1,500 per batch; 42.5 % of the stable loss"
    title = "length loss"
    series = term_series(record, "length").finite()
    if not len(series) or phase is None:
        return _untold(3, title, article, "no length loss recorded")
    if choice(record, "length", "kind", "mse") != "mse":
        return _untold(3, title, article, "this run's length loss is a cross-entropy, not a squared error")
    stable = series.between(phase.first, phase.last)
    share = composition(record, phase).get("length")
    if "length" not in record.batches or len(stable) < LENGTH_BATCHES:
        needed = 2 * LENGTH_BATCHES
        return _untold(3, title, article, f"needs {needed} steps with per-batch values", {"share": share})
    low, high = (float(q) for q in np.percentile(stable.value, [1, 99]))
    swing = variation(stable.value)
    quarter = len(stable) // 4
    start, end = float(stable.value[:quarter].mean()), float(stable.value[-quarter:].mean())
    measured = (
        f"{three(float(stable.value.min()))} to {three(float(stable.value.max()))} per batch "
        f"(train, {phase.text}; 1st to 99th percentile {three(low)} to {three(high)}), "
        f"{percent(share)} of the loss"
    )
    values = {
        "min": float(stable.value.min()),
        "max": float(stable.value.max()),
        "p1": low,
        "p99": high,
        "variation": swing,
        "first_quarter": start,
        "last_quarter": end,
        "share": share,
    }
    swings = high > LENGTH_RATIO * low or (swing is not None and swing > LENGTH_VARIATION)
    word: Word
    if not swings:
        word, why = "not reproduced", f"it varies by only {percent(swing)} of its mean"
    elif end <= LENGTH_SETTLED * start:
        word, why = "not reproduced", f"it settles: {three(start)} to {three(end)}, first to last quarter"
    else:
        word = "reproduced"
        why = (
            f"it varies by {percent(swing)} of its mean and does not settle ({three(start)} to {three(end)})"
        )
    return Finding(3, title, measured, article, word, why, values)


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


def copy_control(record: RunRecord) -> Series:
    """R2 that a copy of the source embedding would score against the mean target (validation)."""
    mean = record.series("validation/embedding_mean").finite()
    known = dict(zip(mean.step.tolist(), mean.value.tolist(), strict=True))
    copied = record.series("validation/embedding_copy").finite()
    scores = {
        step: 1 - value / known[step]
        for step, value in zip(copied.step.tolist(), copied.value.tolist(), strict=True)
        if known.get(step)
    }
    return Series(np.array(list(scores), dtype=np.int64), np.array(list(scores.values()), dtype=np.float64))


def speed(record: RunRecord) -> Speed:
    """Return time and pace: the manifest's seconds, else the last row's time."""
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


def _shares_from_terms(record: RunRecord, row: Mapping[str, object]) -> dict[str, float | None]:
    weighted: dict[str, float] = {}
    for term in record.terms:
        value = number(row.get(f"train/term/{term}"))
        weight = number(row.get(f"train/weight/{term}"))
        if weight is None:
            weight = number(record.setting(f"objective.{term}.weight"))
        if value is not None:
            weighted[term] = value * (1.0 if weight is None else weight)
    total = sum(abs(value) for value in weighted.values())
    return {term: abs(value) / total if total else None for term, value in weighted.items()}


def _around(series: Series, step: int, window: int) -> Span:
    """Mean of the last `window` values up to a step, or of the first ones when all come later."""
    before = series.between(0, step)
    kept = (before if len(before) else series.between(0, int(series.step[0]) + window - 1)).value[-window:]
    steps = (before if len(before) else series).step
    chosen = steps[-window:] if len(before) else steps[: len(kept)]
    return Span(int(chosen[0]), int(chosen[-1]), float(kept.mean()))


def _highest_window_mean(series: Series, window: int) -> float | None:
    """Highest mean of `window` values in a row; of all when there are fewer; None without any."""
    if not len(series):
        return None
    means = moving_average(series.value, window)
    return float(means[min(window, len(means)) - 1 :].max())


def _untold(
    index: int, title: str, article: str, why: str, values: Mapping[str, float | None] | None = None
) -> Finding:
    return Finding(index, title, "not measured", article, "cannot tell", why, values or {})
