"""The table of an evaluation: one row a metric, its controls beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from pydantic import TypeAdapter

from jepalm.config import Config
from jepalm.evaluation.bootstrap import Interval, percentile_interval, ratio, resampled
from jepalm.evaluation.metrics import find_metric

PROMPTS = 1000
"""Prompts where no number is given."""
COLUMNS = ("model", "real", "ngram", "baseline")
"""Whose texts: the model's, the real continuations, the 5-gram sampler's, the baseline's."""


VERIFIED = "verified"
"""The further column of a causal run's texts that the model drafts and that run verifies."""
VERIFIED_NGRAM = "verified_ngram"
"""The same texts, drafted by the 5-gram."""


def passes_column(passes: int) -> str:
    """The further column of the model's texts that were refined in so many passes."""
    return f"passes_{passes}"


def kept_column(keep: float) -> str:
    """The column of the model's texts of passages that kept so many tokens, or such a prefix probability."""
    return f"kept_{keep:g}" if keep >= 1 else f"sure_{keep:g}"


def baseline_column(number: int) -> str:
    """The column of a baseline, counted from 1: `baseline`, `baseline_2` and so on."""
    return "baseline" if number == 1 else f"baseline_{number}"


def is_baseline(name: str) -> bool:
    """Whether a column is that of a baseline."""
    return re.fullmatch(r"baseline(_\d+)?", name) is not None


def is_column(name: str) -> bool:
    """Whether a key of a row as JSON holds a value of some texts."""
    return (
        name in (*COLUMNS, VERIFIED, VERIFIED_NGRAM)
        or is_baseline(name)
        or re.fullmatch(r"(passes|kept)_\d+|sure_0\.\d+", name) is not None
    )


def answers_alone(config: Config) -> bool:
    """Whether the table of a run has answers to given pairs and no other metrics of its model."""
    return config.model.family == "causal" or config.model.action.conditioning != "none"


@dataclass(frozen=True)
class MetricRow:
    """One metric of the model and of each control.

    Attributes:
        name: of the metric, `group/name`; label and unit are those of the registry.
        values: by column; one where the metric has no meaning is missing.
        interval: 95 % bootstrap interval of the model's value, over prompts.
        controls: further controls by their name for people.
    """

    name: str
    values: Mapping[str, float]
    interval: Interval | None = None
    controls: Mapping[str, float] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The part of the table it stands in."""
        return self.name.partition("/")[0]

    @property
    def label(self) -> str:
        """For people; the name itself where the registry does not know it."""
        metric = find_metric(self.name)
        return metric.label if metric is not None else self.name

    @property
    def unit(self) -> str:
        """Of all values; empty for shares and ratios."""
        metric = find_metric(self.name)
        return metric.unit if metric is not None else ""

    def as_json(self) -> dict[str, Any]:
        """The row with null for what is missing or not finite."""
        return {
            "name": self.name,
            "label": self.label,
            "unit": self.unit,
            **{
                column: _finite(self.values.get(column)) for column in dict.fromkeys([*COLUMNS, *self.values])
            },
            "interval": list(self.interval) if self.interval else None,
            "controls": {name: _finite(value) for name, value in self.controls.items()},
        }


def mean_row(
    name: str, values: Mapping[str, ArrayLike], *, seed: int, controls: Mapping[str, float] | None = None
) -> MetricRow:
    """A metric that is a mean over prompts, with the interval of the model's value.

    Args:
        name: of the metric.
        values: by column, (N,) one a prompt; `model` is among them.
        seed: of the resampling.
        controls: further ones.
    """
    sums = {column: (each, np.ones(np.shape(each))) for column, each in values.items()}
    return ratio_row(name, sums, seed=seed, controls=controls)


def ratio_row(
    name: str,
    sums: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    seed: int,
    controls: Mapping[str, float] | None = None,
) -> MetricRow:
    """The same for a ratio of sums, such as nats over characters: numerators (N,) and denominators (N,)."""
    values = {column: float(ratio(np.sum(above), np.sum(below))) for column, (above, below) in sums.items()}
    interval = percentile_interval(resampled(*sums["model"], seed=seed))
    return MetricRow(name, values, interval, controls or {})


@dataclass(frozen=True)
class Evaluation:
    """What was measured, on what.

    Attributes:
        run: name of the run.
        step: of its checkpoint.
        split: the prompts are from it.
        n_prompts: how many, evenly spaced over the split.
        n_samples: texts of each prompt.
        temperature: of the model's draws.
        seed: of every draw and resampling.
        scorer: name of what gave the NLL.
        scored_by_ngram: whether that is the 5-gram, which finds its own text likelier than real text.
        baseline: name of the baseline, if there was one.
        training_tokens: tokens of training text behind the 5-gram, the lexicon and the copies.
        rows: the metrics.
        by_position: nats a token of each column's text under the scorer, by position from 1.
        left_out: which metrics have no meaning for this run and why, if there are such.
        task: how the answers of given pairs were scored; empty where there are none.
        n_answers: how many there were.
        passes: numbers of passes of the model's refined texts, a column each; `model` is one pass.
        order: of their refinement.
        further: names of the baselines after the first, columns `baseline_2` and so on.
        verified: name of the causal run that verifies the model's drafts, if there is one.
        length: tokens of every text, where that was asked for.
        kept: how much stays of each passage of the model's texts, a column each: tokens from 1 on, below 1
            as many as are together at least as likely.
        texts: the first texts of up to 20 prompts, evenly spaced: `prompt`, then each column's text.
    """

    run: str
    step: int
    split: str
    n_prompts: int
    n_samples: int
    temperature: float
    seed: int
    scorer: str
    scored_by_ngram: bool
    baseline: str | None
    training_tokens: int
    rows: list[MetricRow]
    by_position: dict[str, list[float]]
    left_out: str | None = None
    task: str | None = None
    n_answers: int = 0
    passes: list[int] = field(default_factory=list)
    order: str | None = None
    further: list[str] = field(default_factory=list)
    verified: str | None = None
    length: int | None = None
    kept: list[float] = field(default_factory=list)
    texts: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def from_json(cls, tree: Any) -> Evaluation:
        """Return what `as_json` wrote; keys that are not known are left out.

        Raises:
            ValueError: it is something else.
        """
        if not isinstance(tree, dict) or not isinstance(tree.get("rows"), list):
            raise ValueError("an evaluation is an object with rows")
        curves = _not_a_number(tree.get("by_position"))
        given = {**tree, "rows": [_row(row) for row in tree["rows"]], "by_position": curves}
        return TypeAdapter(cls).validate_python(given)

    def __getitem__(self, name: str) -> MetricRow:
        return {row.name: row for row in self.rows}[name]

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs; null for what is missing or not finite."""
        tree = {key: value for key, value in vars(self).items() if key not in ("rows", "by_position")}
        curves = {name: [_finite(value) for value in curve] for name, curve in self.by_position.items()}
        return {**tree, "rows": [row.as_json() for row in self.rows], "by_position": curves}


def _row(tree: Any) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise ValueError("a row is an object")
    values = {name: value for name, value in tree.items() if is_column(name) and value is not None}
    return {**tree, "values": values, "controls": _not_a_number(tree.get("controls"))}


def _not_a_number(tree: Any) -> Any:
    """The same with not-a-number for null."""
    if isinstance(tree, dict):
        return {key: _not_a_number(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_not_a_number(value) for value in tree]
    return math.nan if tree is None else tree


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
