"""The article's three findings on a run.

Pure functions of a RunRecord. The rules are explained in docs/report.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from jepalm.numbers import change, percent, three
from jepalm.report.analysis.article import CE_STEP
from jepalm.report.analysis.phases import PhaseRecord
from jepalm.report.analysis.run import (
    StepMean,
    composition,
    epoch_means,
    mean_distance,
    moving_average,
    squared_embedding,
    term_series,
    variation,
)
from jepalm.report.read import RunRecord, Series

CE_WINDOW = 25
"""Batches averaged there."""
CE_SOLVED = 0.05
"""Reconstruction CE, in nats, below which the text is read back without faults."""
EMBEDDING_FALL = 0.05
"""Least fall of the embedding distance, first to last epoch."""
EMBEDDING_UNSOLVED = 0.5
"""Share of the predicting-the-mean distance that must remain."""
LENGTH_RATIO = 10.0
"""99th over 1st percentile of the per-batch length loss."""
LENGTH_VARIATION = 0.3
"""Standard deviation over mean of the per-batch length loss."""
LENGTH_SETTLED = 0.5
"""Last over first quarter of the stable phase, at or under which the length loss has settled."""
LENGTH_BATCHES = 100
"""Fewest batches of the stable phase to judge the length loss."""

Word = Literal["reproduced", "not reproduced", "cannot tell"]


@dataclass(frozen=True)
class Finding:
    """One of the article's findings on this run."""

    number: int
    title: str
    article: str
    measured: str = "not measured"
    """In words, with what it was measured on."""
    word: Word = "cannot tell"
    why: str = ""
    values: Mapping[str, float | None] = field(default_factory=dict)


RECONSTRUCTION = Finding(1, "reconstruction CE", "0.029 at the start, about 0 by batch 500, flat after")
EMBEDDING = Finding(
    2, "embedding distance", "242 to 181 (-25.3 %) over 10 epochs, sums over 256 dims; R2 about 0.05 to 0.29"
)
LENGTH = Finding(3, "length loss", "0 to over 1,500 per batch; 42.5 % of the stable loss")


def findings(record: RunRecord, phase: PhaseRecord | None) -> list[Finding]:
    """Return the article's three findings as measured on this run."""
    return [reconstruction_finding(record), embedding_finding(record), length_finding(record, phase)]


def reconstruction_finding(record: RunRecord) -> Finding:
    """Finding 1: reconstruction CE is about 0 by batch 500 and stays there."""
    series = term_series(record, "reconstruction").finite()
    if not len(series):
        return replace(RECONSTRUCTION, why=f"no reconstruction recorded; needs {CE_STEP} steps")
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
    return replace(RECONSTRUCTION, measured=measured, word=word, why=why, values=values)


def embedding_finding(record: RunRecord) -> Finding:
    """Finding 2: the embedding distance falls, yet most of it remains."""
    if not squared_embedding(record):
        return replace(EMBEDDING, why="this run's embedding loss is not a squared distance")
    means = epoch_means(record, "embedding")
    r2 = record.series("validation/r2").finite()
    values: dict[str, float | None] = {"first": None, "last": None, "change": None, "r2": r2.last}
    if not means:
        epoch = record.steps_per_epoch
        missing = f"needs {2 * epoch:,} steps" if epoch else "no embedding distance recorded"
        return replace(EMBEDDING, why=missing, values=values)
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
        return replace(EMBEDDING, measured=measured, why=f"needs {needed:,} steps", values=values)
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
    return replace(EMBEDDING, measured=measured, word=word, why=why, values=values)


def length_finding(record: RunRecord, phase: PhaseRecord | None) -> Finding:
    """Finding 3: the length loss swings from batch to batch and does not settle."""
    series = term_series(record, "length").finite()
    if not len(series) or phase is None:
        return replace(LENGTH, why="no length loss recorded")
    if (record.setting("objective.length.kind") or "mse") != "mse":
        return replace(LENGTH, why="this run's length loss is a cross-entropy, not a squared error")
    stable = series.between(phase.first, phase.last)
    share = composition(record, phase).get("length")
    if "length" not in record.batches or len(stable) < LENGTH_BATCHES:
        needed = 2 * LENGTH_BATCHES
        why = f"needs {needed} steps with per-batch values"
        return replace(LENGTH, why=why, values={"share": share})
    low, high = (float(q) for q in np.percentile(stable.value, [1, 99]))
    swing = variation(stable.value)
    quarter = len(stable) // 4
    start, end = float(stable.value[:quarter].mean()), float(stable.value[-quarter:].mean())
    least, most = float(stable.value.min()), float(stable.value.max())
    measured = (
        f"{three(least)} to {three(most)} per batch "
        f"(train, {phase.text}; 1st to 99th percentile {three(low)} to {three(high)}), "
        f"{percent(share)} of the loss"
    )
    values = {"min": least, "max": most, "p1": low, "p99": high, "variation": swing, "share": share}
    values |= {"first_quarter": start, "last_quarter": end}
    swings = high > LENGTH_RATIO * low or (swing is not None and swing > LENGTH_VARIATION)
    word: Word
    if not swings:
        word, why = "not reproduced", f"it varies by only {percent(swing)} of its mean"
    elif end <= LENGTH_SETTLED * start:
        word, why = "not reproduced", f"it settles: {three(start)} to {three(end)}, first to last quarter"
    else:
        ends = f"{three(start)} to {three(end)}"
        word, why = "reproduced", f"it varies by {percent(swing)} of its mean and does not settle ({ends})"
    return replace(LENGTH, measured=measured, word=word, why=why, values=values)


def _around(series: Series, step: int, window: int) -> StepMean:
    """Mean of the last `window` values up to a step, or of the first ones when all come later."""
    before = series.between(0, step)
    kept = (before if len(before) else series.between(0, int(series.step[0]) + window - 1)).value[-window:]
    steps = (before if len(before) else series).step
    chosen = steps[-window:] if len(before) else steps[: len(kept)]
    return StepMean(int(chosen[0]), int(chosen[-1]), float(kept.mean()))


def _highest_window_mean(series: Series, window: int) -> float | None:
    """Highest mean of `window` values in a row; of all when there are fewer; None without any."""
    if not len(series):
        return None
    means = moving_average(series.value, window)
    return float(means[min(window, len(means)) - 1 :].max())
