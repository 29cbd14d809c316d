"""The registry of evaluation metrics: what each is called, its unit, which way is better, and its control.

`evaluate`, `sweep`, the report and the frontier read it, and `docs/evaluation.md` is made from it; it imports
nothing heavy. A new metric is one entry here and one `MetricRow(name, values)` where it is measured.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from jepalm.numbers import counted

Better = Literal["up", "down"]

NGRAM_SIZES = (1, 2, 3, 4)
"""Characters of the n-grams behind entropy and divergence."""
DISTINCT_SIZES = (1, 2)
"""Words of the n-grams that are distinct."""
BRIER_SIZES = (1, 2, 4, 8)
"""Characters that have to agree, of Brier-n."""
COPY_LENGTH = 20
"""Characters of the n-grams that count as copied from the training text."""
WALK_STEPS = 8
"""Steps of a rollout."""
HORIZONS = (1, 2, 3, 4)
"""Actions between the start and the goal of a plan."""

PAIR_GROUPS = (
    *("task", "writing", "views"),
    *("rollout", "plan", "action", "retrieval", "surprise", "world", "probe"),
)
"""Groups that are measured on answers to given pairs; the second line, of runs that read actions."""


@dataclass(frozen=True)
class Metric:
    """One metric of `jepalm evaluate`.

    Attributes:
        name: as it stands in files, such as `scorer/gap`.
        label: for people.
        unit: of the number; empty where it has none.
        better: which way is better; None where neither is.
        control: what the number is read beside, such as `real`, `ngram` or `chance`; None where it has none.
    """

    name: str
    label: str
    unit: str
    better: Better | None
    control: str | None = None

    @property
    def group(self) -> str:
        """The part of the table it stands in."""
        return self.name.partition("/")[0]

    @property
    def of_pairs(self) -> bool:
        """Whether it is measured on answers to given pairs."""
        return self.group in PAIR_GROUPS


def _sized(
    name: str, label: str, sizes: Iterable[int], unit: str, better: Better | None, control: str | None
) -> list[Metric]:
    """One metric for each size `n`, which name and label show."""
    return [Metric(name.format(n=n), label.format(n=n), unit, better, control) for n in sizes]


_DISTANCES = {"embedding": ("embedding distance", ""), "ce": ("CE of the text", "nats/token")}
_FACTS = {
    "changing": "facts that actions change",
    "still": "facts that nothing changes",
    "random": "facts drawn at random",
}

_ALL = [
    # answers to given pairs
    Metric("task/exact_match", "exact match", "", "up", "nearest"),
    Metric("task/in_place", "characters in place", "", "up", "nearest"),
    Metric("task/language_equality", "language equality", "", "up", "nearest"),
    Metric(
        "task/language_equality_nondegenerate", "language equality, gold not degenerate", "", "up", "nearest"
    ),
    Metric("task/answer", "right answer", "", "up", "nearest"),
    Metric("task/execution", "the same rows", "", "up", "nearest"),
    Metric("task/execution_nonempty", "the same rows, gold finds some", "", "up", "nearest"),
    Metric("task/word_error", "word error rate", "", "down", "nearest"),
    Metric("task/phoneme_error", "phoneme error rate", "", "down", "nearest"),
    Metric("task/word_error_unstressed", "word error rate without stress", "", "down", "nearest"),
    Metric(
        "task/word_error_uninflected", "word error rate, no training word's inflection", "", "down", "nearest"
    ),
    Metric("task/inflected", "words that s, 's, ed or ing makes of training words", "", None),
    Metric("task/malformed", "malformed answer", "", "down"),
    Metric("task/undecided", "too large to decide", "", "down"),
    Metric("task/facts", "facts right", "", "up", "nearest"),
    Metric("task/facts_changed", "facts right that the action changed", "", "up", "nearest"),
    Metric("task/facts_still", "facts right that nothing changes", "", "up", "nearest"),
    Metric("task/facts_random", "facts right that are drawn at random", "", "up", "nearest"),
    Metric("writing/characters_per_s", "64 questions at once", "characters/s", "up", "baseline"),
    Metric("writing/answers_per_s", "64 questions at once", "answers/s", "up", "baseline"),
    Metric("writing/latency", "one question at a time", "ms/answer", "down", "baseline"),
    Metric("writing/passes", "forward passes", "passes/answer", "down", "baseline"),
    Metric(
        "views/cosine_gap", "cosine of the two views, paired minus unpaired (validation)", "", "up", "zero"
    ),
    Metric("views/retrieval", "retrieval@1 of the other view (validation)", "", "up", "chance"),
    Metric("views/predicted_rank", "effective rank of predicted views (validation)", "", None, "target"),
    # runs that read actions
    *(
        Metric(f"action/gap_{kind}", f"{label} under a wrong action minus own", unit, "up", "zero")
        for kind, (label, unit) in _DISTANCES.items()
    ),
    *(
        Metric(f"retrieval/{kind}", f"retrieval@1 among wrong next states, by {label}", "", "up", "chance")
        for kind, (label, _) in _DISTANCES.items()
    ),
    *(
        Metric(f"surprise/{kind}", f"surprise at impossible next states, AUC of {label}", "", "up", "chance")
        for kind, (label, _) in _DISTANCES.items()
    ),
    Metric("world/std", "standard deviation, predicted", "", None, "target"),
    Metric("world/effective_rank", "effective rank, predicted", "", None, "target"),
    *(
        Metric(f"probe/{which}_{kind}", f"{label}, from {which} embeddings", "", "up", "majority")
        for kind, label in _FACTS.items()
        for which in ("target", "predicted")
    ),
    *(
        metric
        for way in ("latent", "text")
        for metric in _sized(
            f"rollout/{way}_{{n}}",
            f"{way} rollout, k = {{n}}",
            range(1, WALK_STEPS + 1),
            "",
            "up",
            "state at the start",
        )
    ),
    *(
        Metric(
            f"plan/{way}_{n}",
            f"goal reached by {way} rollouts, {counted(n, 'action')} away",
            "",
            "up",
            "random plans",
        )
        for way in ("latent", "text")
        for n in HORIZONS
    ),
    # one-shot runs: what decoder and predictor make of real pairs
    Metric("decoder/reconstruction_ce", "CE on target embeddings", "nats/token", "down"),
    Metric("decoder/reconstruction_accuracy", "accuracy on target embeddings", "", "up"),
    Metric("decoder/generation_ce", "CE on predicted embeddings", "nats/token", "down", "unigram"),
    Metric("decoder/generation_accuracy", "accuracy on predicted embeddings", "", "up", "most frequent"),
    Metric("decoder/other_source_ce", "CE from another source minus own", "nats/token", "up", "zero"),
    Metric("decoder/mean_embedding_ce", "CE with the mean embedding minus own", "nats/token", "up", "zero"),
    Metric("embedding/r2", "R2 against the mean", "", "up", "mean"),
    Metric("embedding/r2_copy", "R2 against a copy of the source", "", "up", "zero"),
    Metric("embedding/tolerance", "noise the decoder tolerates", "sd/dim", "up", "target"),
    Metric("embedding/rms_error", "the predictor's error", "rms/dim", "down", "tolerance"),
    Metric("embedding/std", "standard deviation, predicted", "", None, "target"),
    Metric("embedding/effective_rank", "effective rank, predicted", "", None, "target"),
    Metric("embedding/cosine", "cosine, paired minus unpaired", "", "up", "copy"),
    Metric("embedding/retrieval", "retrieval@1 among all prompts", "", "up", "chance"),
    # written text
    Metric("scorer/nll", "NLL", "nats/char", None, "real"),
    Metric("scorer/gap", "NLL minus that of real text", "nats/char", None, "real"),
    Metric("scorer/shuffled", "NLL under another prompt minus own", "nats/char", None, "real"),
    Metric("scorer/join", "NLL after an own passage, first 4", "nats/token", None, "real"),
    Metric("text/characters", "length", "chars/text", None, "real"),
    *_sized("text/entropy_{n}", "entropy of {n}-grams", NGRAM_SIZES, "bits", None, "real"),
    *_sized("text/jsd_{n}", "divergence of {n}-grams to held-out", NGRAM_SIZES, "bits", "down", "real"),
    Metric("text/valid_words", "valid words", "", None, "real"),
    *_sized("text/distinct_{n}", "distinct word {n}-grams", DISTINCT_SIZES, "", None, "real"),
    Metric("text/repeated_4", "repeated 4-grams within a text", "", None, "real"),
    Metric("text/copied", f"covered by training {COPY_LENGTH}-grams", "", None, "real"),
    *_sized("brier/score_{n}", "Brier-{n}", BRIER_SIZES, "", "up", "ngram"),
    *_sized("brier/accuracy_{n}", "Brier-{n} accuracy", BRIER_SIZES, "", "up", "ngram"),
    *_sized("brier/collision_{n}", "Brier-{n} collision", BRIER_SIZES, "", "down", "ngram"),
    Metric("cost/passes", "forward passes", "passes/text", "down", "baseline"),
    Metric("cost/latency", "time of a text by itself", "ms", "down", "baseline"),
    Metric("cost/characters_per_s", "64 texts at once", "chars/s", "up", "baseline"),
    *(
        Metric(f"cost/{part}_{n}", f"{label}, {counted(n, 'text')}", "ms", "down")
        for n in (1, 64)
        for part, label in (("predicting", "encoder and predictor"), ("decoding", "decoder"))
    ),
]
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""All metrics by name, in the order of the table, but those of a range of positions: see `find_metric`."""


def find_metric(name: str) -> Metric | None:
    """Return the metric of a name, also of any range of positions; None if there is none.

    These are `scorer/positions_FIRST_LAST` and `decoder/generation_ce_FIRST_LAST`.
    """
    positions = re.fullmatch(r"(scorer/positions|decoder/generation_ce)_(\d+)_(\d+)", name)
    if positions is None:
        return METRICS.get(name)
    group, first, last = positions.groups()
    where = f"position {first}" if first == last else f"positions {first}-{last}"
    if group == "scorer/positions":
        return Metric(name, f"NLL at {where}", "nats/token", None, "real")
    return Metric(name, f"CE on predicted embeddings at {where}", "nats/token", "down", "mean")
