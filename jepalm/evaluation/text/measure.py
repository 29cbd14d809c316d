"""What a model writes: likelihood, statistics, copying and agreement, beside the texts of the controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jepalm.data.tokenizer import SPECIALS, TextTokenizer
from jepalm.evaluation.bootstrap import percentile_interval, ratio, resampled
from jepalm.evaluation.interfaces import Scorer
from jepalm.evaluation.rows import Row, is_baseline
from jepalm.evaluation.text.statistics import (
    COPY_LENGTH,
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
BLOCKS = (1, 2, 3, 4)
BRIER_LENGTHS = (1, 2, 4, 8)
DISTINCT_WORDS = (1, 2)
JOIN_TOKENS = 4


@dataclass(frozen=True)
class Texts:
    """One text for each prompt: token ids without those that show nothing, and the text itself."""

    ids: list[list[int]]
    texts: list[str]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], tokenizer: TextTokenizer) -> Texts:
        """Decode rows of token ids."""
        ids = [[token for token in row if token >= len(SPECIALS)] for row in rows]
        return cls(ids, [tokenizer.decode(row) for row in ids])

    @property
    def characters(self) -> NDArray[np.int64]:
        """Characters of each text, (N,)."""
        return np.array([len(text) for text in self.texts])


Columns = dict[str, list[Texts]]
"""`model`, `real`, `ngram`, maybe `baseline`, `baseline_N`, `passes_N` and `verified`: independent samples.

Of `real` there is one."""


def scored_rows(
    scorer: Scorer,
    prompts: list[list[int]],
    columns: Columns,
    others: NDArray[np.int64],
    joins: dict[str, tuple[list[list[int]], Texts]],
    *,
    seed: int,
) -> tuple[list[Row], dict[str, list[float]]]:
    """NLL of each column's first sample: level, gap to real text, by position, other prompts, joins.

    Args:
        scorer: gives the nats.
        prompts: token ids before each text.
        columns: the texts.
        others: (N,) for each prompt another one, which the text was not written for.
        joins: for a column what it read before its next passage, prompt and passage, and that passage.
        seed: of the resampling.

    Returns:
        the rows, and nats a token by position for each column.
    """
    texts = {name: samples[0] for name, samples in columns.items()}
    nats = {name: scorer.nll(prompts, column.ids) for name, column in texts.items()}
    sums = {name: _totals(found) for name, found in nats.items()}
    characters = {name: column.characters for name, column in texts.items()}
    draws = {name: resampled(sums[name], characters[name], seed=seed) for name in texts}
    level = {name: float(ratio(sums[name].sum(), characters[name].sum())) for name in texts}
    rows = [
        Row("scorer/nll", "NLL", "nats/char", level, interval=percentile_interval(draws["model"])),
        Row(
            "scorer/gap",
            "NLL minus that of real text",
            "nats/char",
            {name: value - level["real"] for name, value in level.items()},
            interval=percentile_interval(draws["model"] - draws["real"]),
        ),
    ]
    longest = max((len(row) for found in nats.values() for row in found), default=0)
    for first, last in position_ranges(longest):
        cut = {name: [row[first - 1 : last] for row in found] for name, found in nats.items()}
        label = f"position {first}" if first == last else f"positions {first}-{last}"
        rows.append(_per_token(f"scorer/positions_{first}_{last}", f"NLL at {label}", cut, seed))
    shuffled = {
        name: _totals(scorer.nll([prompts[other] for other in others], column.ids)) - sums[name]
        for name, column in texts.items()
    }
    rows.append(
        Row(
            "scorer/shuffled",
            "NLL under another prompt minus own",
            "nats/char",
            {name: float(ratio(shuffled[name].sum(), characters[name].sum())) for name in texts},
            interval=percentile_interval(resampled(shuffled["model"], characters["model"], seed=seed)),
        )
    )
    if joins:
        joined = {
            name: [row[:JOIN_TOKENS] for row in scorer.nll(before, after.ids)]
            for name, (before, after) in joins.items()
        }
        joined["real"] = [row[:JOIN_TOKENS] for row in nats["real"]]
        label = f"NLL after an own passage, first {JOIN_TOKENS}"
        rows.append(_per_token("scorer/join", label, joined, seed))
    return rows, {name: _by_position(found) for name, found in nats.items()}


def statistics_rows(
    prompts: list[str], columns: Columns, reference: list[str], training: str, *, seed: int
) -> list[Row]:
    """What each column's first sample is like, beside real text and a reference of other held-out texts.

    Args:
        prompts: text before each text.
        columns: the texts.
        reference: held-out texts of other pairs, which the divergence is measured to.
        training: the training text.
        seed: of the resampling.
    """
    texts = {name: samples[0].texts for name, samples in columns.items()}
    entropies, divergences, distincts = [], [], []
    for n in BLOCKS:
        keys = {name: ngrams(column, n) for name, column in texts.items()}
        other = ngrams(reference, n)

        def divergence(found: Keys, other: Keys = other) -> float:
            return jensen_shannon(found, other[: len(found)])

        entropies.append(_of_equal_size(f"entropy_{n}", f"entropy of {n}-grams", "bits", keys, block_entropy))
        label = f"divergence of {n}-grams to held-out"
        divergences.append(_of_equal_size(f"jsd_{n}", label, "bits", keys, divergence, len(other)))
    for n in DISTINCT_WORDS:
        found = {name: word_ngrams(column, n) for name, column in texts.items()}
        distincts.append(_of_equal_size(f"distinct_{n}", f"distinct word {n}-grams", "", found, distinct))
    known, copies = lexicon(training), Copies(training)

    def share(name: str, figure: str, counts: dict[str, list[tuple[int, int]]], unit: str = "") -> Row:
        parts = {column: np.array(pairs, np.float64).T for column, pairs in counts.items()}
        values = {column: float(ratio(above.sum(), below.sum())) for column, (above, below) in parts.items()}
        interval = percentile_interval(resampled(*parts["model"], seed=seed))
        return Row(f"text/{name}", figure, unit, values, interval=interval)

    def per_text(count: Any) -> dict[str, list[tuple[int, int]]]:
        return {name: list(map(count, prompts, column)) for name, column in texts.items()}

    covered = {
        name: list(zip(copies.covered(column).tolist(), map(len, column), strict=True))
        for name, column in texts.items()
    }
    return [
        share("characters", "length", per_text(lambda _, text: (len(text), 1)), "chars/text"),
        *entropies,
        *divergences,
        share("valid_words", "valid words", per_text(lambda prompt, text: valid_words(text, known, prompt))),
        *distincts,
        share("repeated_4", "repeated 4-grams within a text", per_text(lambda _, text: repeated(text, 4))),
        share("copied", f"covered by training {COPY_LENGTH}-grams", covered),
    ]


def brier_rows(columns: Columns, *, seed: int) -> list[Row]:
    """Brier-n of each sampled column with its two parts."""
    real = columns["real"][0].texts
    rows = []
    for n in BRIER_LENGTHS:
        found = {
            name: brier([sample.texts for sample in samples], real, n)
            for name, samples in columns.items()
            if len(samples) > 1
        }
        for part, figure in (
            ("score", "Brier-{}"),
            ("accuracy", "Brier-{} accuracy"),
            ("collision", "Brier-{} collision"),
        ):
            values = {name: getattr(scored, part) for name, scored in found.items()}
            rows.append(
                Row(
                    f"brier/{part}_{n}",
                    figure.format(n),
                    "",
                    {name: float(value.mean()) for name, value in values.items()},
                    interval=percentile_interval(resampled(values["model"], seed=seed)),
                )
            )
    return rows


def _of_equal_size(
    name: str,
    figure: str,
    unit: str,
    found: dict[str, Any],
    measure: Callable[[Any], float],
    limit: int | None = None,
) -> Row:
    """A row of a figure that depends on the amount of text: every column has the same number of n-grams.

    Where the model writes less, its figure is of all it wrote, and real text of that size stands beside.
    """
    size = min(len(items) for column, items in found.items() if column in CONTROLS or is_baseline(column))
    size = size if limit is None else min(size, limit)
    values = {column: measure(items[:size]) for column, items in found.items()}
    controls = {"n-grams of each": float(size)}
    own = len(found["model"])
    if own < size:
        controls |= {"of the model": float(own), "real text of that size": measure(found["real"][:own])}
    return Row(f"text/{name}", figure, unit, values, controls=controls)


def position_ranges(longest: int) -> list[tuple[int, int]]:
    """Cut positions 1 to `longest` into 1, 2, 3-4, 5-8, 9-16 and so on, both ends inside."""
    ranges, first, last = [], 1, 1
    while first <= longest:
        ranges.append((first, min(last, longest)))
        first, last = last + 1, 2 * last
    return ranges


def _per_token(name: str, figure: str, nats: dict[str, list[NDArray[np.float64]]], seed: int) -> Row:
    counts = {column: np.array([len(row) for row in found]) for column, found in nats.items()}
    sums = {column: _totals(found) for column, found in nats.items()}
    values = {column: float(ratio(sums[column].sum(), counts[column].sum())) for column in nats}
    interval = percentile_interval(resampled(sums["model"], counts["model"], seed=seed))
    return Row(name, figure, "nats/token", values, interval=interval)


def _totals(nats: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.array([row.sum() for row in nats])


def _by_position(nats: list[NDArray[np.float64]]) -> list[float]:
    longest = max(map(len, nats), default=0)
    table = np.full((len(nats), longest), np.nan)  # (N, T)
    for place, row in enumerate(nats):
        table[place, : len(row)] = row
    return [float(value) for value in ratio(np.nansum(table, 0), np.isfinite(table).sum(0))]
