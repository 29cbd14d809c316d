"""Answers that are right when they are the same text."""

from __future__ import annotations

import numpy as np

from jepalm.evaluation.answers.tasks.shares import Answered, Share, exact_match


def score_text(answered: Answered) -> list[Share]:
    """Exact match, and characters in place.

    A character is in place where the right answer has the same one; what either text is longer counts
    as wrong.
    """
    pairs = list(zip(answered.gold, answered.written, strict=True))
    same = [sum(a == b for a, b in zip(gold, written, strict=False)) for gold, written in pairs]
    longest = [max(len(gold), len(written)) for gold, written in pairs]
    in_place = Share("in_place", np.array(same, np.float64), np.array(longest, np.float64))
    return [exact_match(answered), in_place]
