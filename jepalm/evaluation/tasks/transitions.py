"""The state that follows a state and an action, without the facts that nobody can know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jepalm.evaluation.tasks.shares import Answered, Share
from jepalm.evaluation.tasks.text import score_text


def score_transitions(answered: Answered, masked: Callable[[str], str] = lambda text: text) -> list[Share]:
    """Exact match, and characters in place, of states whose random facts are hidden.

    Args:
        answered: next states.
        masked: hides random facts in a state's text; a log of one's own has none that are known.
    """
    gold, written = ([masked(text) for text in texts] for texts in (answered.gold, answered.written))
    return score_text(replace(answered, gold=gold, written=written))
