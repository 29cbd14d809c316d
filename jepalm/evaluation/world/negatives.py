"""Wrong next states and wrong actions of a transition: what a model that knows the world must tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from jepalm.data.worlds.base import AnyWorld
from jepalm.evaluation.answers.questions import Question

EACH = 3
"""Most wrong next states of a kind."""


@dataclass(frozen=True)
class Contrast:
    """What a transition is compared with; parts are empty where there is nothing of the kind.

    Attributes:
        wrong_action: an action that does not make this next state.
        other_actions: next states that other actions make of the same state.
        other_states: next states that the same action makes of other states.
    """

    wrong_action: str
    other_actions: tuple[str, ...]
    other_states: tuple[str, ...]

    @property
    def wrong(self) -> tuple[str, ...]:
        """All wrong next states."""
        return (*self.other_actions, *self.other_states)


def contrast_in(world: AnyWorld, asked: Question, rng: Random) -> Contrast:
    """Draw what the simulator knows to be wrong.

    Other states are those one legal action away. All have the random facts of the true next state, so that
    these tell nothing apart, and differ from it elsewhere.
    """
    state, noise = world.parse(asked.source), world.parse(asked.gold).noise
    by_action: dict[str, str] = {}
    by_state: dict[str, None] = {}
    for action in world.actions(state):
        effect = world.effect(state, action)
        by_action.setdefault(world.text(replace(effect or state, noise=noise)), action)
        if effect is not None:
            after = world.effect(effect, asked.action) or effect
            by_state.setdefault(world.text(replace(after, noise=noise)))
    actions = [text for text in by_action if text != asked.gold]
    states = [text for text in by_state if text != asked.gold and text not in by_action]
    wrong = [by_action[text] for text in actions]
    return Contrast(rng.choice(wrong) if wrong else "", _some(actions, rng), _some(states, rng))


def contrasts_in_log(questions: Sequence[Question], rng: Random) -> list[Contrast]:
    """Draw from a log, which tells only what happened: other rows of the same state, or the same action.

    A wrong action is any other of the log; it may by chance make the same next state.
    """
    by_state: dict[str, list[Question]] = {}
    by_action: dict[str, list[Question]] = {}
    for one in questions:
        by_state.setdefault(one.source, []).append(one)
        by_action.setdefault(one.action, []).append(one)
    known = list(by_action)
    found = []
    for one in questions:
        actions = {other.gold for other in by_state[one.source] if other.action != one.action} - {one.gold}
        states = {other.gold for other in by_action[one.action] if other.source != one.source}
        wrong = rng.choice(known) if len(known) > 1 else ""
        while wrong == one.action and len(known) > 1:
            wrong = rng.choice(known)
        others = sorted(states - actions - {one.gold})
        found.append(Contrast(wrong, _some(sorted(actions), rng), _some(others, rng)))
    return found


def _some(texts: Sequence[str], rng: Random) -> tuple[str, ...]:
    return tuple(rng.sample(texts, min(EACH, len(texts))))
