"""Words and their pronunciations: the errors of words and of phonemes, against the nearest right one."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from jepalm.data.pairs.tasks import ALTERNATIVES
from jepalm.evaluation.answers.tasks.shares import Answered, Share

INFLECTIONS = ("s", "'s", "ed", "ing")
"""Endings by which a word may differ from one that is known."""


def score_g2p(answered: Answered, known: Collection[str] = ()) -> list[Share]:
    """Word error rate and phoneme error rate, and the former of words that no known word gives away.

    An answer is a list of phonemes between blanks. It is wrong unless it is one of the right ones, all
    phonemes and their stress; without stress is how ARPAbet is often scored. The phoneme error is the edit
    distance to the nearest right answer over that answer's length.

    Args:
        answered: words, their right answers with `; ` between them, and what was written.
        known: words of the training split.
    """
    answers = [[one.split() for one in gold.split(ALTERNATIVES)] for gold in answered.gold]
    written = [text.split() for text in answered.written]
    words = list(zip(answers, written, strict=True))
    nearest = [nearest_answer(right, found) for right, found in words]
    distances, lengths = np.array(nearest, np.float64).reshape(-1, 2).T
    inflected = np.array([is_inflection(word, known) for word in answered.sources], bool)
    return [
        Share.of("word_error", distances > 0),
        Share("phoneme_error", distances, lengths),
        Share.of(
            "word_error_unstressed",
            [unstressed(found) not in map(unstressed, right) for right, found in words],
        ),
        Share.of("word_error_uninflected", distances > 0, ~inflected),
        Share.of("inflected", inflected),
    ]


def unstressed(phonemes: Sequence[str]) -> list[str]:
    """Phonemes of ARPAbet without the digit that marks a vowel's stress."""
    return [phoneme.rstrip("012") for phoneme in phonemes]


def nearest_answer(answers: Sequence[Sequence[str]], written: Sequence[str]) -> tuple[int, int]:
    """The edit distance of what was written to the nearest right answer, and the length of that one."""
    found = [(edit_distance(answer, written), len(answer)) for answer in answers]
    return min(found, key=lambda pair: (pair[0] / pair[1], pair[0]))


def edit_distance(wanted: Sequence[str], found: Sequence[str]) -> int:
    """Least number of symbols to insert, delete or replace (Levenshtein 1966)."""
    if wanted == found:
        return 0
    row = list(range(len(found) + 1))
    for at, symbol in enumerate(wanted, 1):
        before, row[0] = row[0], at
        for place, other in enumerate(found, 1):
            before, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, before + (symbol != other)),
            )
    return row[-1]


def is_inflection(word: str, known: Collection[str]) -> bool:
    """Whether a word is a known one with one of `INFLECTIONS` more, or one less."""
    return any(
        word + ending in known or (word.endswith(ending) and word.removesuffix(ending) in known)
        for ending in INFLECTIONS
    )
