"""Scores of regular expressions: the same text, or the same set of lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jepalm.data.regex.automaton import Language, language
from jepalm.data.regex.syntax import ExpressionTooLargeError, MalformedExpressionError, Reading
from jepalm.errors import UsageError

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class RegexScores:
    """One flag for each expression, so that any share can be bootstrapped; all (N,)."""

    exact: Flags
    """The predicted text is the gold text."""
    equal: Flags
    """It describes the same lines."""
    degenerate: Flags
    """The gold describes no line, or every line: guessing such a language takes no understanding."""
    malformed: Flags
    """The predicted text is no expression, or empty; wrong."""
    undecided: Flags
    """One of the two is beyond the bound on automata; wrong unless the texts are the same."""

    @property
    def exact_match(self) -> float:
        """Share of the same text."""
        return _share(self.exact)

    @property
    def language_equality(self) -> float:
        """Share of the same set of lines (the `DFA-equal` of Locascio et al. 2016)."""
        return _share(self.equal)

    @property
    def language_equality_nondegenerate(self) -> float:
        """The same share where the gold is not degenerate; NaN where it always is."""
        return _share(self.equal[~self.degenerate])

    def counts(self) -> dict[str, int]:
        """How many of each, and `all`."""
        flags = {
            "exact": self.exact,
            "equal": self.equal,
            "degenerate": self.degenerate,
            "equal_nondegenerate": self.equal & ~self.degenerate,
            "malformed": self.malformed,
            "undecided": self.undecided,
        }
        return {"all": len(self.exact)} | {name: int(flag.sum()) for name, flag in flags.items()}


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
    right = [decided[text] for text in gold]
    found = [decided[text] for text in predicted]
    exact = [one == other for one, other in zip(gold, predicted, strict=True)]
    pairs = list(zip(right, found, strict=True))
    same = [isinstance(one, Language) and one == other for one, other in pairs]
    return RegexScores(
        exact=np.array(exact, bool),
        equal=np.array(exact, bool) | np.array(same, bool),
        degenerate=np.array([isinstance(one, Language) and one.degenerate for one in right], bool),
        malformed=np.array([isinstance(other, MalformedExpressionError) for other in found], bool),
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


def _share(flags: Flags) -> float:
    return float(flags.mean()) if len(flags) else float("nan")
