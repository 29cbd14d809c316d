"""Solutions whose final number counts (Cobbe et al. 2021, arXiv 2110.14168)."""

from __future__ import annotations

import re
from decimal import Decimal

from jepalm.data.pairs.tasks import FINAL
from jepalm.errors import UsageError
from jepalm.evaluation.answers.tasks.shares import Answered, Share, exact_match

_NUMBER = re.compile(r"([-+]?)\$?(\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)\.?", re.ASCII)


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


def final_answer(solution: str) -> Decimal | str | None:
    """What stands behind the last `####` on its line, as a number where it is one; None where nothing does.

    A dollar sign, commas between thousands, a closing full stop and zeros at the end change no number.
    """
    _, mark, rest = solution.rpartition(FINAL)
    text = rest.split("\n")[0].strip()
    if not mark or not text:
        return None
    number = _NUMBER.fullmatch(text)
    return Decimal(number[1] + number[2].replace(",", "")) if number else text
