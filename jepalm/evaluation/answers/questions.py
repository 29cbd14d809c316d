"""Given pairs as questions and right answers, and what answers them without a model: the controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from jepalm.data.pairs.tasks import ALTERNATIVES
from jepalm.data.prepared import PreparedData, Split
from jepalm.data.tokenizer import TextTokenizer
from jepalm.evaluation.text.statistics import ngrams

LOST = "\ufffd"
"""Stands for a character outside the alphabet: no model writes it, so that such an answer is never right."""
OVERLAP = 3
"""Characters of the n-grams that two sources share."""
_QUESTIONS_AT_ONCE = 256


@dataclass(frozen=True)
class Question:
    """A pair as text, whole."""

    source: str
    gold: str
    action: str = ""

    @property
    def asked(self) -> str:
        """Everything that is read: the source, and the action on a line of its own."""
        return f"{self.source}\n{self.action}" if self.action else self.source


def read_questions(split: Split, tokenizer: TextTokenizer, n: int) -> list[Question]:
    """Read n pairs evenly spaced over a split, or all of them where it has no more."""
    n = min(n, split.n_pairs)
    return [_question(split, tokenizer, place * split.n_pairs // n) for place in range(n)]


def read_all_answers(split: Split, tokenizer: TextTokenizer, n: int) -> list[Question]:
    """Read n sources evenly spaced over a split, each with the targets of all its pairs as right answers."""
    answers: dict[str, list[str]] = {}
    for place in range(split.n_pairs):
        pair = _question(split, tokenizer, place)
        answers.setdefault(pair.source, []).append(pair.gold)
    found = [Question(source, ALTERNATIVES.join(dict.fromkeys(right))) for source, right in answers.items()]
    n = min(n, len(found))
    return [found[place * len(found) // n] for place in range(n)]


def training_questions(prepared: PreparedData, most_tokens: int) -> tuple[list[Question], int]:
    """The first pairs of train, as many as begin in its first tokens, and their tokens."""
    split, size = prepared.split("train"), 0
    found: list[Question] = []
    while len(found) < split.n_pairs and size < most_tokens:
        source, target = split.pair(len(found))
        size += len(source) + len(target)
        found.append(_question(split, prepared.tokenizer, len(found)))
    return found, size


def most_frequent_answer(training: Sequence[Question]) -> str:
    """The answer that train has most often; of several the first."""
    return Counter(question.gold for question in training).most_common(1)[0][0]


def nearest(questions: Sequence[str], known: Sequence[str]) -> NDArray[np.int64]:
    """For each question the known one that shares most of its character 3-grams, (N,); of several the first.

    By the Dice coefficient of the sets of 3-grams, with a blank at both ends of a text: twice the common
    ones over the sum of both sets' sizes.
    """
    grams = [np.unique(ngrams([f" {text} "], OVERLAP)) for text in (*known, *questions)]
    edges = np.cumsum([0, *map(len, grams)])
    table, numbers = np.unique(np.concatenate(grams), return_inverse=True)
    ones = np.ones(len(numbers), np.float32)
    sets = csr_array((ones, numbers, edges), shape=(len(grams), len(table)))
    ours, theirs = sets[len(known) :], sets[: len(known)].T.tocsr()
    sizes = np.diff(edges)
    found = np.empty(len(questions), np.int64)
    for at in range(0, len(questions), _QUESTIONS_AT_ONCE):
        rows = slice(at, at + _QUESTIONS_AT_ONCE)
        common = (ours[rows] @ theirs).toarray()  # (B, M)
        both = sizes[len(known) :][rows, None] + sizes[: len(known)]
        found[rows] = (2 * common / both).argmax(1)
    return found


def _question(split: Split, tokenizer: TextTokenizer, index: int) -> Question:
    source, target = split.pair(index)
    action = split.ids("action", index) if split.has_action else []
    return Question(*(_text(tokenizer, ids) for ids in (source, target, action)))


def _text(tokenizer: TextTokenizer, ids: list[int]) -> str:
    """The text, with `LOST` for what the alphabet lacks."""
    if TextTokenizer.UNK not in ids:
        return tokenizer.decode(ids)
    edges = [at for at, token in enumerate(ids) if token == TextTokenizer.UNK]
    starts, ends = [0, *(at + 1 for at in edges)], [*edges, len(ids)]
    return LOST.join(tokenizer.decode(ids[start:end]) for start, end in zip(starts, ends, strict=True))
