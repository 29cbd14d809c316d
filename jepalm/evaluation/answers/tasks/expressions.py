"""Regular expressions, by their text and by the lines that they describe."""

from __future__ import annotations

from jepalm.data.regex.syntax import Reading
from jepalm.evaluation.answers.regex import score_regexes
from jepalm.evaluation.answers.tasks.shares import Answered, Share


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
