"""What is wrong with a run, each line by a rule with a threshold and a reason.

The rules are explained in docs/report.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from jepalm.numbers import percent, three
from jepalm.report.analysis.phases import PhaseRecord, last_phase_start
from jepalm.report.analysis.run import (
    MOVING_AVERAGE,
    copy_control,
    mean_distance,
    moving_average,
    squared_embedding,
    term_series,
)
from jepalm.report.read import RunRecord, Series, number
from jepalm.report.rules.terms import (
    dominating_term,
    muted_terms,
    opposing_terms,
    silent_terms,
    volatile_terms,
    weights_at_limits,
)
from jepalm.report.rules.verdict import Verdict

RANK_COLLAPSE = 0.05
"""Share of dim that the embeddings still use."""
STD_COLLAPSE = 0.1
"""Share of its first value that the embeddings' spread still has."""
FORGETS_CE = 1.0
"""Reconstruction CE, in nats, at which the embeddings no longer tell the text."""
NEAR_ZERO_DISTANCE = 0.05
"""Share of the predicting-the-mean distance that counts as near zero."""
OVERFIT_RISE = 0.05
"""Rise of a validation metric over its best."""
DIVERGED = 10.0
"""Loss over its best, both as 20-batch means."""
MEAN_ACCURACY = 0.5
"""Generation accuracy over reconstruction accuracy."""
READS_BACK = 0.5
"""Reconstruction accuracy from which the decoder is not to blame for the generated text."""


def verdicts(record: RunRecord, phase: PhaseRecord | None) -> list[Verdict]:
    """Return what is wrong with the run, worst first, or one line that nothing is."""
    found = [
        *unfinished(record),
        *diverged(record),
        *spiked(record),
        *collapsed(record),
        *overfit(record),
        *conditional_mean(record),
        *no_better_than_control(record),
        *silent_terms(record),
        *muted_terms(record),
        *weights_at_limits(record),
        *dominating_term(record, phase),
        *volatile_terms(record, phase),
        *opposing_terms(record),
        *(Verdict("note", "unreadable", text, "read as far as possible") for text in record.problems),
    ]
    if not any(verdict.level == "warning" for verdict in found) and record.train:
        found.append(Verdict("good", "sound", "nothing wrong found", "no rule of this list spoke"))
    return found


def unfinished(record: RunRecord) -> Iterator[Verdict]:
    """A run that did not reach its last step, or has no rows."""
    planned = number(record.manifest.get("steps"))
    where = f"step {record.step:,}" + (f" of {planned:,.0f}" if planned else "")
    error = record.manifest.get("error")
    words = {
        "created": "the run was created and never began",
        "running": f"still marked running at {where}: training goes on, or was killed",
        "interrupted": f"interrupted at {where}",
        "failed": f"failed at {where}" + (f": {error}" if error else ""),
        "unknown": f"the run does not say whether it finished; it reached {where}",
    }
    if record.status in words:
        yield Verdict("warning", "unfinished", words[record.status], f"status is {record.status}")
    if not record.train and not record.validation:
        yield Verdict("warning", "empty", "nothing was recorded yet", "metrics.jsonl has no rows")


def diverged(record: RunRecord) -> Iterator[Verdict]:
    """A loss or term that is not finite, or a loss ten times its best of the last phase."""
    names = [("loss", record.series("train/loss"))]
    for term in record.terms:
        names.append((term, record.series(f"train/term/{term}")))
        if term in record.batches:
            names.append((term, record.batches[term]))
    bad = [
        (int(series.step[~np.isfinite(series.value)][0]), name)
        for name, series in names
        if not np.isfinite(series.value).all()
    ]
    if bad:
        step, name = min(bad)
        text = f"{name} is not finite from step {step:,} (train)"
        yield Verdict("warning", "diverged", text, "NaN or infinity")
        return
    loss = _smooth(record.series("train/loss").between(last_phase_start(record) + 1, record.step))
    if len(loss) and loss.value.min() > 0 and loss.value[-1] > DIVERGED * loss.value.min():
        best, at = float(loss.value.min()), int(loss.step[loss.value.argmin()])
        text = f"diverged: loss {three(loss.last)} at the end, {three(best)} at step {at:,} (train)"
        reason = f"loss over {DIVERGED:.0f} times its best, 20-batch means"
        yield Verdict("warning", "diverged", text, reason)


def spiked(record: RunRecord) -> Iterator[Verdict]:
    """Steps whose loss jumped far above those before it, as training flagged them."""
    events = [event for event in record.events if event.get("event") == "spike"]
    found = [
        (loss - usual, int(step), loss, usual)
        for event in events
        if (loss := number(event.get("loss"))) is not None
        and (usual := number(event.get("median"))) is not None
        and (step := number(event.get("spike_step"))) is not None
        and np.isfinite([loss, usual, step]).all()
    ]
    if found:
        _, step, loss, usual = max(found)
        times = f"{len(found)} times, most" if len(found) > 1 else "once,"
        text = f"the loss jumped {times} at step {step:,}: {three(loss)}, usual was {three(usual)} (train)"
        reason = "10 median absolute deviations, and half the median, above the 100 steps before"
        yield Verdict("note", "spike", text, reason)


def collapsed(record: RunRecord) -> Iterator[Verdict]:
    """Embeddings that lost their rank, their spread, or the text."""
    for key, whose in (("effective_rank", "target"), ("predicted_effective_rank", "predicted")):
        rank = record.series(f"validation/{key}").finite().last
        if rank is not None and record.dim and rank < RANK_COLLAPSE * record.dim:
            text = f"{whose} embeddings collapsed: effective rank {three(rank)} of {record.dim} (validation)"
            level: Literal["warning", "note"] = "warning" if whose == "target" else "note"
            yield Verdict(level, "collapse", text, f"rank under {percent(RANK_COLLAPSE)} of dim")
    spread = record.series("validation/embedding_std").finite()
    if len(spread) > 1 and spread.value[-1] < STD_COLLAPSE * spread.value[0]:
        ends = f"{three(spread.first)} to {three(spread.last)}"
        text = f"embeddings shrank: standard deviation {ends} (validation)"
        reason = f"under {percent(STD_COLLAPSE)} of its first value"
        yield Verdict("warning", "collapse", text, reason)
    ce, distance = _late(record, "reconstruction"), _late(record, "embedding")
    control, _ = mean_distance(record)
    if ce is None or distance is None or control is None:
        return
    if squared_embedding(record) and ce > FORGETS_CE and distance < NEAR_ZERO_DISTANCE * control:
        text = (
            f"the encoder forgets the text to be easy to predict: embedding distance {three(distance)}, "
            f"yet reconstruction CE {three(ce)} (train, last rows)"
        )
        near_zero = f"{percent(NEAR_ZERO_DISTANCE)} of {three(control)}"
        reason = f"CE over {FORGETS_CE} while the distance is under {near_zero}"
        yield Verdict("warning", "collapse", text, reason)


def overfit(record: RunRecord) -> Iterator[Verdict]:
    """A loss or distance that rose on validation from its best of the last phase while it fell on train."""
    phase = last_phase_start(record) + 1, record.step
    for name, validation, train in (
        ("loss", record.series("validation/loss").finite(), record.series("train/loss")),
        ("embedding", record.held_out("embedding"), record.series("train/term/embedding")),
    ):
        held_out, train = validation.between(*phase), _smooth(train.finite().between(*phase))
        if len(held_out) < 2 or not len(train):
            continue
        best_at = int(held_out.value.argmin())
        best, last = float(held_out.value[best_at]), float(held_out.value[-1])
        step = int(held_out.step[best_at])
        then = train.between(0, step).last
        if then is None or train.last is None:
            continue
        if last > best + OVERFIT_RISE * abs(best) and train.last < then:
            text = (
                f"overfit: validation {name} {three(last)} is over its best {three(best)} of step {step:,}, "
                f"while train fell from {three(then)} to {three(train.last)}"
            )
            reason = f"validation over {percent(OVERFIT_RISE)} above its best"
            yield Verdict("warning", "overfit", text, reason)


def conditional_mean(record: RunRecord) -> Iterator[Verdict]:
    """A parallel decoder that reads target embeddings well and predicted ones badly, without noise."""
    if (record.setting("model.predictor.noise") or "none") != "none":
        return
    if (record.setting("model.decoder.kind") or "parallel") != "parallel":
        return
    reads = record.series("validation/reconstruction_accuracy").finite().last
    writes = record.series("validation/generation_accuracy").finite().last
    ce = record.series("validation/generation_ce").finite().last
    if reads is None or writes is None or reads < READS_BACK or writes >= MEAN_ACCURACY * reads:
        return
    text = (
        f"one-shot text is the conditional mean (generation CE {three(ce)}, accuracy {percent(writes)} on "
        f"predicted embeddings against {percent(reads)} on target embeddings, validation); with "
        "model.decoder.kind=recurrent the letters of a word agree (docs/one-pass.md)"
    )
    reason = f"generation accuracy under {percent(MEAN_ACCURACY)} of reconstruction accuracy"
    yield Verdict("warning", "conditional-mean", text, reason)


def no_better_than_control(record: RunRecord) -> Iterator[Verdict]:
    """Predictions no closer to the targets than a control that predicts nothing.

    Noise does not excuse them: in validation, Gumbel noise is that of the held-out text.
    """
    r2 = record.series("validation/r2").finite().last
    copy = copy_control(record).last
    if r2 is None or (r2 > 0 and (copy is None or r2 > copy)):
        return
    control = "the mean" if r2 <= 0 else f"a copy of the source (R2 {three(copy)})"
    text = f"predicted embeddings are no better than {control}: R2 {three(r2)} (validation)"
    yield Verdict("warning", "no-prediction", text, "R2 at or under that of a control")


def _smooth(series: Series) -> Series:
    """Mean over the rows that cover the last 20 batches."""
    if len(series) < 2:
        return series
    spacing = max(1, int(np.median(np.diff(series.step))))
    rows = max(1, -(-MOVING_AVERAGE // spacing))
    return Series(series.step, moving_average(series.value, rows))


def _late(record: RunRecord, term: str) -> float | None:
    """Mean of a term's last 20 batches, or its last row."""
    series = term_series(record, term).finite()
    if not len(series):
        return None
    window = MOVING_AVERAGE if term in record.batches else 1
    return float(series.value[-window:].mean())
