"""How hard each loss term is weighted, the limits of its weight, and whether gradients oppose each other.

Pure functions of a RunRecord. The rules are explained in docs/report.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jepalm.report.analysis.phases import training_phases
from jepalm.report.read import RunRecord, Series, number

AT_LIMIT = 0.05
"""Relative distance from a limit at which a weight counts as sitting there."""
COSINE = "train/grad_cosine/"
NORM = "train/grad_norm_encoder/"


@dataclass(frozen=True)
class Limit:
    """An end of the range that a weighting leaves to a term's weight."""

    value: float
    name: str
    """`clamp` or `floor`."""
    setting: str
    """Dotted key of what sets it."""


def weighting(record: RunRecord) -> str:
    """Return how the run's terms were weighted; `fixed` where the config does not say."""
    return str(record.setting("objective.weighting") or "fixed")


def weights(record: RunRecord) -> dict[str, Series]:
    """Return the recorded weight of each term over steps."""
    return record.by_term("train/weight/")


def weights_move(record: RunRecord) -> bool:
    """Whether the weights are anything but fixed numbers."""
    found = weights(record)
    moved = any(np.ptp(series.value) > 0 for series in found.values())
    return bool(found) and (moved or weighting(record) != "fixed")


def weight_limits(record: RunRecord) -> dict[str, list[Limit]]:
    """Return the limits that the run's weighting sets to each term's weight (`objective/weighting.py`).

    Uncertainty: `exp(-s)` with s within the clamp, halved for terms that are no cross-entropy; so a run
    whose manifest does not describe its terms has no known limits. Running mean: 1 over the floor.
    """
    kind, found = weighting(record), {}
    setting = {"uncertainty": "objective.uncertainty.clamp", "ema": "objective.ema.floor"}.get(kind, "")
    end = number(record.setting(setting)) if setting else None
    if not end or not math.isfinite(end):
        return {}
    for name, term in record.terms.items():
        configured = _configured(record, name)
        if not configured or term.constant or term.nats is None:
            continue
        if kind == "ema":
            found[name] = [Limit(configured / end, "floor", setting)]
        else:
            middle = configured * (1.0 if term.nats else 0.5)
            found[name] = [Limit(middle * math.exp(s), "clamp", setting) for s in (-end, end)]
    return found


def limit_reached(series: Series, limit: Limit) -> Series:
    """Return the log points at which a weight sits at a limit."""
    near = np.abs(series.value / limit.value - 1) <= AT_LIMIT
    return Series(series.step[near], series.value[near])


def gradient_cosines(record: RunRecord) -> dict[tuple[str, str], Series]:
    """Return the cosine between the gradients of each pair of terms on the encoder, where it was logged."""
    found: dict[tuple[str, str], Series] = {}
    for key in _logged(record, COSINE):
        first, _, second = key.removeprefix(COSINE).partition("/")
        series = record.series(key).finite()
        if second and len(series):
            found[first, second] = series
    return found


def why_no_cosines(record: RunRecord) -> str:
    """Return why a run has no cosines between gradients, in one line."""
    norms = {key.removeprefix(NORM): record.series(key).finite() for key in _logged(record, NORM)}
    reach = [term for term, series in norms.items() if len(series) and series.value.max() > 0]
    if not norms:
        return "This run recorded no gradient of single terms on the encoder."
    if len(reach) > 1:
        return "This run recorded no cosines between the gradients of its terms."
    if not reach:
        return "No term's gradient reaches the encoder, so none can oppose another."
    return f"Only {reach[0]} has a gradient on the encoder, so no term can oppose another there."


def encoder_share(record: RunRecord, term: str) -> float | None:
    """A term's last gradient norm on the encoder over the sum of all terms'."""
    last = {other: float(series.value[-1]) for other, series in record.by_term(NORM).items()}
    total = sum(last.values())
    return last[term] / total if term in last and total > 0 else None


def _logged(record: RunRecord, prefix: str) -> list[str]:
    """The keys under a prefix; few log points have gradients."""
    return list(dict.fromkeys(key for point in record.train for key in point if key.startswith(prefix)))


def _configured(record: RunRecord, term: str) -> float | None:
    """A term's weight in the config, or what the last phase replaces it by."""
    phases, begun = record.setting("training.phases"), training_phases(record)
    for phase in phases if begun and isinstance(phases, list | tuple) else ():
        terms = phase.get("terms") if isinstance(phase, Mapping) else None
        if isinstance(terms, Mapping) and phase.get("name") == begun[-1].name:
            return number(terms.get(term))
    return number(record.setting(f"objective.{term}.weight"))
