"""The state that follows a state and an action, without the facts that nobody can know; and fact by fact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from jepalm.data.worlds.base import AnyWorld, Fact
from jepalm.evaluation.answers.tasks.shares import Answered, Share
from jepalm.evaluation.answers.tasks.text import score_text

Facts = Callable[[str], Mapping[str, Fact]]
"""The facts of a state's text."""
KINDS = ("facts", "facts_changed", "facts_still", "facts_random")
"""Shares of facts; the first is of all that actions change, changed or not."""


def score_transitions(
    answered: Answered, masked: Callable[[str], str] = lambda text: text, facts: Facts | None = None
) -> list[Share]:
    """Exact match, and characters in place, of states whose random facts are hidden; and shares of facts.

    Args:
        answered: next states.
        masked: hides random facts in a state's text; a log of one's own has none that are known.
        facts: reads those of a state; without, there are no shares of facts.
    """
    gold, written = ([masked(text) for text in texts] for texts in (answered.gold, answered.written))
    shares = score_text(replace(answered, gold=gold, written=written))
    return shares if facts is None else shares + score_facts(answered, facts)


def score_facts(answered: Answered, facts: Facts) -> list[Share]:
    """Shares of the facts of next states that stand, with their value, where the right text has them."""
    right = {kind: np.zeros(len(answered.gold)) for kind in KINDS}
    counted = {kind: np.zeros(len(answered.gold)) for kind in KINDS}
    rows = zip(answered.sources, answered.gold, answered.written, strict=True)
    for place, (source, gold, written) in enumerate(rows):
        before = facts(source)
        for name, fact in facts(gold).items():
            changed = name in before and before[name].value != fact.value
            kinds = ["facts" if fact.kind == "changing" else f"facts_{fact.kind}"]
            kinds += ["facts_changed"] if fact.kind == "changing" and changed else []
            for kind in kinds:
                counted[kind][place] += 1
                right[kind][place] += written[fact.start : fact.end] == fact.value
    return [Share(kind, right[kind], counted[kind]) for kind in KINDS if counted[kind].any()]


def facts_of(world: AnyWorld) -> Facts:
    """Read the facts of a world's texts."""
    return lambda text: world.facts(world.parse(text))
