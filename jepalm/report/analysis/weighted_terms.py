"""Who weighted terms how hard: the weight of each term, its limits, and whether gradients oppose each other.

Pure functions of a RunRecord. The rules are explained in docs/report.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jepalm.report.analysis.phases import training_phases
from jepalm.report.analysis.run import choice, weighting
from jepalm.report.read import TERM_ORDER, RunRecord, Series, number

AT_LIMIT = 0.05
"""Relative distance from a limit at which a weight counts as sitting there; GradNorm scales its floor."""
CROSS_ENTROPIES = {"reconstruction", "generation", "intermediate_logits", "local", "next_token"}
"""Terms in nats, to which uncertainty weighting gives a factor of 1; the others get a half."""
CONSTANT = {"kl", "regularizer"}
"""Terms that keep their configured weight under every weighting."""
COSINE = "train/grad_cosine/"
NORM = "train/grad_norm_encoder/"

Pair = tuple[str, str]


@dataclass(frozen=True)
class Limit:
    """An end of the range that a weighting leaves to a term's weight."""

    value: float
    name: str
    """`clamp` or `floor`."""
    setting: str
    """Dotted key of what sets it."""


def weights(record: RunRecord) -> dict[str, Series]:
    """Return the recorded weight of each term over steps."""
    found = {term: record.series(f"train/weight/{term}").finite() for term in record.terms}
    return {term: series for term, series in found.items() if len(series)}


def weights_move(record: RunRecord) -> bool:
    """Whether the weights are anything but fixed numbers."""
    found = weights(record)
    moved = any(np.ptp(series.value) > 0 for series in found.values())
    return bool(found) and (moved or weighting(record) != "fixed")


def weight_limits(record: RunRecord) -> dict[str, list[Limit]]:
    """Return the limits that the run's weighting sets to each term's weight (`objective/weighting.py`).

    Uncertainty: `exp(-s)` with s within the clamp, halved for regressions. Running mean: 1 over the
    floor. GradNorm: the floor, before weights are scaled to their sum.
    """
    kind, limits = weighting(record), {}
    for term in record.terms:
        own = _configured(record, term)
        if own and term not in CONSTANT:
            limits[term] = _limits(record, kind, term, own)
    return {term: found for term, found in limits.items() if found}


def limit_reached(series: Series, limit: Limit) -> Series:
    """Return the log points at which a weight sits at a limit."""
    near = np.abs(series.value / limit.value - 1) <= AT_LIMIT
    return Series(series.step[near], series.value[near])


def gradient_cosines(record: RunRecord) -> dict[Pair, Series]:
    """Return the cosine between the gradients of each pair of terms on the encoder, over steps."""
    keys = dict.fromkeys(key for row in record.train for key in row if key.startswith(COSINE))
    found: dict[Pair, Series] = {}
    for key in keys:
        first, _, second = key.removeprefix(COSINE).partition("/")
        series = record.series(key).finite()
        if second and len(series):
            found[first, second] = series
    return dict(sorted(found.items(), key=lambda item: [_place(term) for term in item[0]]))


def why_no_cosines(record: RunRecord) -> str:
    """Return why a run has no cosines between gradients, in one line."""
    logged = {
        key.removeprefix(NORM): record.series(key).finite()
        for key in dict.fromkeys(key for row in record.train for key in row if key.startswith(NORM))
    }
    reach = [term for term, series in logged.items() if len(series) and series.value.max() > 0]
    if not logged:
        return "This run recorded no gradient of single terms on the encoder."
    if len(reach) > 1:
        return "This run recorded no cosines between the gradients of its terms."
    if not reach:
        return "No term's gradient reaches the encoder, so none can oppose another."
    return f"Only {reach[0]} has a gradient on the encoder, so no term can oppose another there."


def _configured(record: RunRecord, term: str) -> float | None:
    """A term's weight in the config, or what the last phase replaces it by."""
    phases, begun = record.setting("training.phases"), training_phases(record)
    for phase in phases if begun and isinstance(phases, list | tuple) else ():
        terms = phase.get("terms") if isinstance(phase, Mapping) else None
        if isinstance(terms, Mapping) and phase.get("name") == begun[-1].name:
            return number(terms.get(term))
    return number(record.setting(f"objective.{term}.weight"))


def _limits(record: RunRecord, kind: str, term: str, own: float) -> list[Limit]:
    dotted = {"uncertainty": "clamp", "ema": "floor", "gradnorm": "floor"}.get(kind, "")
    setting = f"objective.{kind}.{dotted}"
    value = number(record.setting(setting)) if dotted else None
    if not value or not math.isfinite(value):
        return []
    if kind == "ema":
        return [Limit(own / value, "floor", setting)]
    if kind == "gradnorm":
        return [Limit(own * value, "floor", setting)]
    in_nats = term in CROSS_ENTROPIES or (
        term == "length" and choice(record, "length", "kind", "mse") == "classification"
    )
    middle = own * (1.0 if in_nats else 0.5)
    return [Limit(middle * math.exp(end), "clamp", setting) for end in (-value, value)]


def _place(term: str) -> tuple[int, str]:
    return (TERM_ORDER.index(term) if term in TERM_ORDER else len(TERM_ORDER), term)
