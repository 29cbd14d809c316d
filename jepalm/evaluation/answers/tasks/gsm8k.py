"""Solutions whose final number counts (Cobbe et al. 2021, arXiv 2110.14168)."""

from __future__ import annotations

from jepalm.data.pairs.tasks import FINAL, final_answer
from jepalm.errors import UsageError
from jepalm.evaluation.answers.tasks.shares import Answered, Share, exact_match


def score_gsm8k(answered: Answered) -> list[Share]:
    """Final answers that are the same number, and exact match of the whole solution.

    An answer without `####`, or with nothing behind it, is wrong.

    Raises:
        UsageError: a gold solution has no final answer.
    """
    right = []
    for gold, written in zip(answered.gold, answered.written, strict=True):
        wanted = final_answer(gold)
        if wanted is None:
            raise UsageError(f"the gold solution {gold!r} has no final answer after {FINAL}")
        right.append(final_answer(written) == wanted)
    return [Share.of("answer", right), exact_match(answered)]
