"""Short answers of which several are right (Lee et al. 2019, arXiv 1906.00300)."""

from __future__ import annotations

import re
import string

from jepalm.data.pairs.tasks import ALTERNATIVES
from jepalm.evaluation.answers.tasks.shares import Answered, Share, exact_match

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def score_nq_open(answered: Answered) -> list[Share]:
    """Answers that are one of the right ones after normalisation, and exact match of the whole list.

    Of several answers that a text gives, the first one counts: who lists everything knows nothing. A part
    of a right answer is wrong, and so is an empty one.
    """
    right = []
    for gold, written in zip(answered.gold, answered.written, strict=True):
        answer = normalised(written.split(ALTERNATIVES)[0])
        right.append(bool(answer) and answer in {normalised(one) for one in gold.split(ALTERNATIVES)})
    return [Share.of("answer", right), exact_match(answered)]


def normalised(text: str) -> str:
    """Lower case without punctuation, English articles and needless blanks (SQuAD, arXiv 1606.05250).

    What would be empty then, such as an article alone, stays as it is in lower case.
    """
    lower = text.lower().strip()
    bare = " ".join(_ARTICLES.sub(" ", lower.translate(_PUNCTUATION)).split())
    return bare or lower
