"""What is wrong with the balance of the loss terms, each line by a rule with a threshold and a reason.

The rules are explained in docs/report.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from jepalm.numbers import counted, percent, three
from jepalm.report.analysis.phases import PhaseRecord
from jepalm.report.analysis.run import MOVING_AVERAGE, composition, shares, variation
from jepalm.report.analysis.weighted_terms import (
    encoder_share,
    gradient_cosines,
    limit_reached,
    weight_limits,
    weights,
    weights_move,
)
from jepalm.report.read import RunRecord
from jepalm.report.rules.verdict import Verdict

DEAD_SHARE = 0.005
"""A term under this share of the loss does not contribute; less than the article's table shows."""
DEAD_STRETCH = 0.1
"""Least share of the run that a term must have been silent for."""
DOMINATES = 0.9
"""Share of the loss over which the other terms hardly steer what all parts share."""
VOLATILE = 0.3
"""Standard deviation over mean, per batch in the stable phase: the length loss of the article swings so."""
VOLATILE_SHARE = 0.01
"""A term with less of the loss than this may swing: it moves nothing."""
MUTED_SHARE = 0.01
"""A term under this share of the loss is muted by its weight."""
MUTED_STRETCH = 0.5
"""Share of the run over which a term must be muted to be called so."""
AT_LIMIT_STRETCH = 0.1
"""Least share of the run that a weight must have sat at its limit for."""
OPPOSED = -0.1
"""Median cosine between two gradients under which the terms work against each other."""
COSINES = 5
"""Fewest log points for that median."""


def silent_terms(record: RunRecord) -> Iterator[Verdict]:
    """Terms that stopped adding to the loss, and what they still do to the encoder."""
    for term, series in shares(record).items():
        if record.weight(term) == 0 or len(series) < 2:
            continue
        loud = series.step[series.value >= DEAD_SHARE]
        since = int(loud[-1]) if len(loud) else 0
        last = int(series.step[-1])
        if last - since < max(1, DEAD_STRETCH * last):
            continue
        when = f"since step {since:,}" if since else "at any log point"
        text = f"{term} has not contributed {when} (under {percent(DEAD_SHARE)} of the train loss)"
        still = encoder_share(record, term)
        if still is not None and still >= 0.5:
            part = "all" if still > 0.9995 else percent(still)
            text += f", yet is {part} of the gradient on the encoder"
        reason = f"share under {percent(DEAD_SHARE)} to the end"
        yield Verdict("warning", "silent", text, reason, term)


def dominating_term(record: RunRecord, phase: PhaseRecord | None) -> Iterator[Verdict]:
    """A term that is nearly all of the loss."""
    if phase is None:
        return
    measured = composition(record, phase)
    for term, share in measured.items():
        if share > DOMINATES and len(measured) > 1:
            text = f"{term} dominates: {percent(share)} of the loss (train, {phase.text})"
            yield Verdict(
                "warning", "dominates", text, f"share over {percent(DOMINATES)} in the stable phase"
            )


def volatile_terms(record: RunRecord, phase: PhaseRecord | None) -> Iterator[Verdict]:
    """Terms whose value swings from batch to batch."""
    if phase is None:
        return
    measured = composition(record, phase)
    for term, series in record.batches.items():
        stable = series.between(phase.first, phase.last)
        swing = variation(stable.value) if len(stable) >= MOVING_AVERAGE else None
        if swing is not None and swing > VOLATILE and measured.get(term, 1.0) >= VOLATILE_SHARE:
            text = (
                f"{term} is volatile: it varies by {percent(swing)} of its mean from batch to batch "
                f"(train, {phase.text})"
            )
            yield Verdict("note", "volatile", text, f"standard deviation over {VOLATILE} of the mean")


def muted_terms(record: RunRecord) -> Iterator[Verdict]:
    """Terms that are next to nothing of the loss for most of the run, yet not silent to its end."""
    silent = {verdict.about for verdict in silent_terms(record)}
    weighed = weights(record)
    for term, series in shares(record).items():
        off = weighed[term].step[weighed[term].value == 0] if term in weighed else []
        on = series.value[~np.isin(series.step, off)]
        if record.weight(term) == 0 or term in silent or len(on) < 2:
            continue
        muted = float((on < MUTED_SHARE).mean())
        if muted > MUTED_STRETCH:
            text = (
                f"{term} is muted: under {percent(MUTED_SHARE)} of the train loss at {percent(muted)} of the "
                "log points"
            )
            reason = f"share under {percent(MUTED_SHARE)} for over {percent(MUTED_STRETCH)} of the run"
            yield Verdict("warning", "muted", text, reason, term)


def weights_at_limits(record: RunRecord) -> Iterator[Verdict]:
    """Weights that ended at an end of the range that the weighting leaves them."""
    if not weights_move(record):
        return
    limits = weight_limits(record)
    for term, series in weights(record).items():
        last = int(series.step[-1])
        for limit in limits.get(term, []):
            reached = set(limit_reached(series, limit).step.tolist())
            away = [step for step in series.step.tolist() if step not in reached]
            since = int(series.step[series.step > max(away, default=0)].min(initial=last))
            if last - since < max(1, AT_LIMIT_STRETCH * last):
                continue
            text = (
                f"the weight of {term} sits at its {limit.name}, {three(limit.value)}, since step {since:,}: "
                f"{limit.setting} sets it, no longer the losses"
            )
            # A floor is there to be reached; a clamp stops what would go on.
            level: Literal["warning", "note"] = "warning" if limit.name == "clamp" else "note"
            reason = f"within 5 % of its limit for the last {percent(AT_LIMIT_STRETCH)} of the run or longer"
            yield Verdict(level, "at-limit", text, reason, term)


def opposing_terms(record: RunRecord) -> Iterator[Verdict]:
    """Pairs of terms whose gradients on the encoder point against each other."""
    for (first, second), series in gradient_cosines(record).items():
        median = float(np.median(series.value))
        if len(series) >= COSINES and median < OPPOSED:
            text = (
                f"{first} and {second} oppose each other on the encoder: median cosine {three(median)} of "
                f"their gradients (train, {counted(len(series), 'log point')})"
            )
            yield Verdict("note", "opposed", text, f"median cosine under {OPPOSED}")
