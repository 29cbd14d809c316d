"""Metrics of written text: likelihood, statistics, copying, agreement; beside the texts of controls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jepalm.data.tokenizer import SPECIALS, TextTokenizer
from jepalm.evaluation.bootstrap import percentile_interval, ratio, resampled
from jepalm.evaluation.interfaces import Scorer
from jepalm.evaluation.metrics import BRIER_SIZES, DISTINCT_SIZES, NGRAM_SIZES
from jepalm.evaluation.rows import MetricRow, is_baseline, mean_row, ratio_row
from jepalm.evaluation.text.statistics import (
    Copies,
    Keys,
    block_entropy,
    brier,
    distinct,
    jensen_shannon,
    lexicon,
    ngrams,
    repeated,
    valid_words,
    word_ngrams,
)

CONTROLS = ("real", "ngram")
JOIN_TOKENS = 4


@dataclass(frozen=True)
class TextSample:
    """One text for each prompt: token ids without those that show nothing, and the text itself."""

    ids: list[list[int]]
    texts: list[str]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], tokenizer: TextTokenizer) -> TextSample:
        """Decode rows of token ids."""
        ids = [[token for token in row if token >= len(SPECIALS)] for row in rows]
        return cls(ids, [tokenizer.decode(row) for row in ids])

    @property
    def characters(self) -> NDArray[np.int64]:
        """Characters of each text, (N,)."""
        return np.array([len(text) for text in self.texts])


TextsByColumn = dict[str, list[TextSample]]
"""Independent samples of each column: `model`, `real`, `ngram`, maybe `baseline`, `passes_N` and others.

Of `real` there is one."""


def scored_rows(
    scorer: Scorer,
    prompts: list[list[int]],
    samples: TextsByColumn,
    others: NDArray[np.int64],
    joins: dict[str, tuple[list[list[int]], TextSample]],
    *,
    seed: int,
) -> tuple[list[MetricRow], dict[str, list[float]]]:
    """NLL of each column's first sample: level, gap to real text, by position, other prompts, joins.

    Args:
        scorer: gives the nats.
        prompts: token ids before each text.
        samples: the texts.
        others: (N,) for each prompt another one, which the text was not written for.
        joins: for a column what it read before its next passage, prompt and passage, and that passage.
        seed: of the resampling.

    Returns:
        the rows, and nats a token by position for each column.
    """
    texts = {name: drawn[0] for name, drawn in samples.items()}
    nats = {name: scorer.nll(prompts, sample.ids) for name, sample in texts.items()}
    sums = {name: _totals(found) for name, found in nats.items()}
    characters = {name: sample.characters for name, sample in texts.items()}
    level = ratio_row("scorer/nll", {name: (sums[name], characters[name]) for name in texts}, seed=seed)
    draws = {name: resampled(sums[name], characters[name], seed=seed) for name in ("model", "real")}
    gaps = {name: value - level.values["real"] for name, value in level.values.items()}
    rows = [level, MetricRow("scorer/gap", gaps, percentile_interval(draws["model"] - draws["real"]))]
    longest = max((len(row) for found in nats.values() for row in found), default=0)
    for first, last in position_ranges(longest):
        cut = {name: [row[first - 1 : last] for row in found] for name, found in nats.items()}
        rows.append(_per_token(f"scorer/positions_{first}_{last}", cut, seed))
    shuffled = {
        name: (_totals(scorer.nll([prompts[other] for other in others], sample.ids)) - sums[name])
        for name, sample in texts.items()
    }
    parts = {name: (shuffled[name], characters[name]) for name in texts}
    rows.append(ratio_row("scorer/shuffled", parts, seed=seed))
    if joins:
        joined = {
            name: [row[:JOIN_TOKENS] for row in scorer.nll(before, after.ids)]
            for name, (before, after) in joins.items()
        }
        joined["real"] = [row[:JOIN_TOKENS] for row in nats["real"]]
        rows.append(_per_token("scorer/join", joined, seed))
    return rows, {name: _by_position(found) for name, found in nats.items()}


def statistics_rows(
    prompts: list[str], samples: TextsByColumn, reference: list[str], training: str, *, seed: int
) -> list[MetricRow]:
    """What each column's first sample is like, beside real text and a reference of other held-out texts.

    Args:
        prompts: text before each text.
        samples: the texts.
        reference: held-out texts of other pairs, which the divergence is measured to.
        training: the training text.
        seed: of the resampling.
    """
    texts = {name: drawn[0].texts for name, drawn in samples.items()}
    entropies, divergences, distincts = [], [], []
    for n in NGRAM_SIZES:
        keys = {name: ngrams(column, n) for name, column in texts.items()}
        other = ngrams(reference, n)

        def divergence(found: Keys, other: Keys = other) -> float:
            return jensen_shannon(found, other[: len(found)])

        entropies.append(_of_equal_size(f"text/entropy_{n}", keys, block_entropy))
        divergences.append(_of_equal_size(f"text/jsd_{n}", keys, divergence, len(other)))
    for n in DISTINCT_SIZES:
        words = {name: word_ngrams(column, n) for name, column in texts.items()}
        distincts.append(_of_equal_size(f"text/distinct_{n}", words, distinct))
    known, copies = lexicon(training), Copies(training)

    def share(name: str, count: Callable[[list[str]], Iterable[tuple[int, int]]]) -> MetricRow:
        """Counts of each text over what they are counted among."""
        counts = {column: np.array(list(count(found)), np.float64) for column, found in texts.items()}
        sums = {column: (each[:, 0], each[:, 1]) for column, each in counts.items()}
        return ratio_row(name, sums, seed=seed)

    return [
        share("text/characters", lambda column: [(len(text), 1) for text in column]),
        *entropies,
        *divergences,
        share(
            "text/valid_words",
            lambda column: [
                valid_words(text, known, prompt) for prompt, text in zip(prompts, column, strict=True)
            ],
        ),
        *distincts,
        share("text/repeated_4", lambda column: [repeated(text, 4) for text in column]),
        share(
            "text/copied", lambda column: zip(copies.covered(column).tolist(), map(len, column), strict=True)
        ),
    ]


def brier_rows(samples: TextsByColumn, *, seed: int) -> list[MetricRow]:
    """Brier-n of each sampled column with its two parts."""
    real = samples["real"][0].texts
    rows = []
    for n in BRIER_SIZES:
        found = {
            name: brier([sample.texts for sample in drawn], real, n)
            for name, drawn in samples.items()
            if len(drawn) > 1
        }
        for part in ("score", "accuracy", "collision"):
            values = {name: getattr(scored, part) for name, scored in found.items()}
            rows.append(mean_row(f"brier/{part}_{n}", values, seed=seed))
    return rows


def _of_equal_size(
    name: str, found: dict[str, Any], measure: Callable[[Any], float], limit: int | None = None
) -> MetricRow:
    """A row of a metric that depends on the amount of text: every column has the same number of n-grams.

    Where the model writes less, its metric is of all it wrote, and real text of that size stands beside.
    """
    size = min(len(items) for column, items in found.items() if column in CONTROLS or is_baseline(column))
    size = size if limit is None else min(size, limit)
    values = {column: measure(items[:size]) for column, items in found.items()}
    controls = {"n-grams of each": float(size)}
    own = len(found["model"])
    if own < size:
        controls |= {"of the model": float(own), "real text of that size": measure(found["real"][:own])}
    return MetricRow(name, values, controls=controls)


def position_ranges(longest: int) -> list[tuple[int, int]]:
    """Cut positions 1 to `longest` into 1, 2, 3-4, 5-8, 9-16 and so on, both ends inside."""
    ranges, first, last = [], 1, 1
    while first <= longest:
        ranges.append((first, min(last, longest)))
        first, last = last + 1, 2 * last
    return ranges


def _per_token(name: str, nats: dict[str, list[NDArray[np.float64]]], seed: int) -> MetricRow:
    sums = {column: (_totals(found), np.array(list(map(len, found)))) for column, found in nats.items()}
    return ratio_row(name, sums, seed=seed)


def _totals(nats: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.array([row.sum() for row in nats])


def _by_position(nats: list[NDArray[np.float64]]) -> list[float]:
    longest = max(map(len, nats), default=0)
    table = np.full((len(nats), longest), np.nan)  # (N, T)
    for place, row in enumerate(nats):
        table[place, : len(row)] = row
    return [float(value) for value in ratio(np.nansum(table, 0), np.isfinite(table).sum(0))]
