"""What every scorer takes and gives: questions with their answers in, shares out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Answered:
    """Questions, the right answer of each, and what was written; all of the same length.

    Attributes:
        sources: the questions, whole.
        gold: the right answers, whole.
        written: any text.
    """

    sources: Sequence[str]
    gold: Sequence[str]
    written: Sequence[str]


@dataclass(frozen=True)
class Share:
    """A metric over questions: the sum of `above` over the sum of `below`.

    Attributes:
        name: of the metric, without `task/`.
        above: (N,) 1 where an answer is right, or how much of it.
        below: (N,) 1 where the question counts, or how much.
    """

    name: str
    above: NDArray[np.float64]
    below: NDArray[np.float64]

    @classmethod
    def of(cls, name: str, right: ArrayLike, counted: ArrayLike | None = None) -> Share:
        """A share from flags (N,), among the questions that count."""
        flags = np.asarray(right, np.float64)
        below = np.ones(len(flags)) if counted is None else np.asarray(counted, np.float64)
        return cls(name, flags * below, below)

    @property
    def value(self) -> float:
        """The share; NaN where nothing counts."""
        total = float(self.below.sum())
        return float(self.above.sum()) / total if total else float("nan")


Score = Callable[[Answered], list[Share]]


def same_text(answered: Answered) -> list[bool]:
    """Whether each answer is the right text, blanks at its ends aside; an empty one never is."""
    pairs = zip(answered.gold, answered.written, strict=True)
    return [bool(written.strip()) and written.strip() == gold.strip() for gold, written in pairs]


def exact_match(answered: Answered) -> Share:
    """Share of answers that are the right text."""
    return Share.of("exact_match", same_text(answered))
