"""Regular expressions, by their text and by the lines that they describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jepalm.data.regex.automaton import Language, language
from jepalm.data.regex.syntax import ExpressionTooLargeError, MalformedExpressionError, Reading
from jepalm.errors import UsageError
from jepalm.evaluation.answers.tasks.shares import Answered, Share

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class RegexScores:
    """One flag for each expression, so that any share can be bootstrapped; all (N,)."""

    exact: Flags
    """The predicted text is the gold text."""
    equal: Flags
    """It describes the same lines (the `DFA-equal` of Locascio et al. 2016)."""
    degenerate: Flags
    """The gold describes no line, or every line: guessing such a language takes no understanding."""
    malformed: Flags
    """The predicted text is no expression, or empty; wrong."""
    undecided: Flags
    """One of the two is beyond the bound on automata; wrong unless the texts are the same."""


def score_expressions(answered: Answered, reading: Reading = "boundary") -> list[Share]:
    r"""Exact match, language equality, the same on gold that is not degenerate, and what was no expression.

    Args:
        answered: gold and written expressions.
        reading: of a `\b`.

    Raises:
        UsageError: a gold text is no expression.
    """
    scores = score_regexes(answered.gold, answered.written, reading)
    return [
        Share.of("exact_match", scores.exact),
        Share.of("language_equality", scores.equal),
        Share.of("language_equality_nondegenerate", scores.equal, ~scores.degenerate),
        Share.of("malformed", scores.malformed),
        Share.of("undecided", scores.undecided),
    ]


def score_regexes(
    gold: Sequence[str], predicted: Sequence[str], reading: Reading = "boundary"
) -> RegexScores:
    r"""Compare predicted expressions with the right ones.

    Args:
        gold: the right expressions, (N,).
        predicted: what a model wrote, (N,); any text.
        reading: of a `\b`; `letter` is how the published pairs were scored (dk.brics.automaton).

    Raises:
        UsageError: the lists differ in length, or a gold text is no expression.
    """
    if len(gold) != len(predicted):
        raise UsageError(f"{len(predicted):,} predictions for {len(gold):,} expressions", "give one for each")
    decided = _decide({*gold, *predicted}, reading)
    for text in gold:
        if isinstance(decided[text], MalformedExpressionError):
            raise UsageError(f"the gold text {text!r} is no expression: {decided[text]}")
    pairs = [(decided[text], decided[written]) for text, written in zip(gold, predicted, strict=True)]
    exact = np.array([text == written for text, written in zip(gold, predicted, strict=True)], bool)
    same = np.array([isinstance(right, Language) and right == found for right, found in pairs], bool)
    return RegexScores(
        exact=exact,
        equal=exact | same,
        degenerate=np.array([isinstance(right, Language) and right.degenerate for right, _ in pairs], bool),
        malformed=np.array([isinstance(found, MalformedExpressionError) for _, found in pairs], bool),
        undecided=np.array(
            [any(isinstance(part, ExpressionTooLargeError) for part in pair) for pair in pairs], bool
        ),
    )


def _decide(texts: set[str], reading: Reading) -> dict[str, Language | UsageError]:
    """The language of each text, or why it has none."""
    decided: dict[str, Language | UsageError] = {}
    for text in texts:
        try:
            decided[text] = language(text, reading)
        except (MalformedExpressionError, ExpressionTooLargeError) as error:
            decided[text] = error
    return decided
