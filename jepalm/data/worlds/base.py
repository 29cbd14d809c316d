"""What every world is: states with a text form, actions as sentences, the true step, and noise.

A state's text is a list of facts in an order that never changes, each as wide as ever, so that a fact
keeps its place from one state to the next. First come facts that change at random at each step, then
facts that no action changes, then what the world is about:

    sky fog, rug red, you hall, hall lit, bath open dim, lamp bath
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from jepalm.errors import UsageError

Draw = Literal["seen", "compositional", "longer"]
"""`seen`: only what training has; `compositional`: with a combination that training never has;
`longer`: with one object more than training ever has."""
Kind = Literal["changing", "still", "random"]
MOST_NOISE = 4
"""Facts of a kind that a world has names for."""


@dataclass(frozen=True, slots=True)
class State:
    """What all states have beside their world's own facts."""

    noise: tuple[str, ...]
    """Values of the facts that change at random."""
    still: tuple[str, ...]
    """Values of the facts that no action changes."""


S = TypeVar("S", bound=State)


class Fact(NamedTuple):
    """One fact of a state and where its text says it."""

    value: str
    kind: Kind
    start: int
    end: int
    """Characters [start, end) of the state's text."""


class Said(NamedTuple):
    """A piece of a state's text: words that are always there, and the value of a fact."""

    words: str
    fact: str
    value: str
    kind: Kind = "changing"
    after: str = ""


class World(ABC, Generic[S]):
    """A simulator with a text form. Nothing in it changes: states do.

    Args:
        size: how large the place is; the world says of what.
        objects: most objects in a state that training sees.
        noise: facts that change at random at each step.
        distractors: facts that no action changes.

    Raises:
        UsageError: a size that the world does not have.
    """

    name: ClassVar[str]
    sizes: ClassVar[range]
    object_counts: ClassVar[range]
    size_means: ClassVar[str]
    default_size: ClassVar[int]
    default_objects: ClassVar[int]
    walk_steps: ClassVar[int] = 4
    """Transitions of one walk."""
    random_facts: ClassVar[Mapping[str, Sequence[str]]] = {
        "sky": ("dry", "fog", "icy", "wet"),
        "cat": ("eat", "nap", "run", "sit"),
        "bus": ("due", "off", "six", "ten"),
        "owl": ("fly", "hid", "nap", "out"),
    }
    """Names and values, all three letters."""
    still_facts: ClassVar[Mapping[str, Sequence[str]]] = {
        "rug": ("ash", "jet", "red", "tan"),
        "hat": ("big", "low", "new", "old"),
        "pot": ("mud", "old", "red", "tin"),
        "map": ("big", "new", "old", "wee"),
    }

    def __init__(self, size: int, objects: int, noise: int = 1, distractors: int = 1) -> None:
        _in_range(self.name, self.size_means, size, self.sizes)
        _in_range(self.name, "objects", objects, self.object_counts)
        _in_range(self.name, "random facts", noise, range(MOST_NOISE + 1))
        _in_range(self.name, "distractors", distractors, range(MOST_NOISE + 1))
        self._ending = ""
        self.size = size
        self.objects = objects
        self._random = dict(list(self.random_facts.items())[:noise])
        self._still = dict(list(self.still_facts.items())[:distractors])
        self._head = re.compile(
            "".join(f"{name} ({'|'.join(values)}), " for name, values in (self._random | self._still).items())
        )

    @abstractmethod
    def sample(self, rng: Random, draw: Draw = "seen") -> S:
        """Draw a state."""

    @abstractmethod
    def actions(self, state: S) -> list[str]:
        """All that can be said to do in this state, legal or not; the same after any step."""

    def tried(self, verbs: Sequence[str], rng: Random) -> list[str]:
        """The verbs in the order in which a walk tries them; all orders are equally likely."""
        return rng.sample(verbs, len(verbs))

    @abstractmethod
    def effect(self, state: S, action: str) -> S | None:
        """The state that the action makes, random facts as they were; None where it is illegal.

        A sentence that is no action is illegal everywhere.
        """

    @abstractmethod
    def n_objects(self, state: S) -> int:
        """How many objects the state has; no step makes it more."""

    @abstractmethod
    def unseen_state(self, state: S) -> bool:
        """Whether it holds a combination that training never has; no step makes one."""

    @abstractmethod
    def unseen_action(self, state: S, action: str) -> bool:
        """Whether it combines a verb and an object that training never combines."""

    @abstractmethod
    def _said(self, state: S) -> list[Said]:
        """The text of the world's own facts, piece by piece."""

    @abstractmethod
    def _parse(self, text: str, noise: tuple[str, ...], still: tuple[str, ...]) -> S:
        """Read the world's own facts; `ValueError` with the reason where they are none."""

    def unseen(self, state: S, action: str) -> bool:
        """Whether training never has such a pair: it is of the compositional split."""
        return self.unseen_state(state) or self.unseen_action(state, action)

    def legal(self, state: S, action: str) -> bool:
        """Whether the action does something."""
        return self.effect(state, action) is not None

    def step(self, state: S, action: str, rng: Random) -> S:
        """The next state: the effect, if the action is legal, and new random facts in any case."""
        return self.stirred(self.effect(state, action) or state, rng)

    def stirred(self, state: S, rng: Random) -> S:
        """The state with new random facts."""
        return replace(state, noise=self._draw_noise(rng)) if self._random else state

    def text(self, state: S) -> str:
        """The state in words."""
        said = "".join(said.words + said.value for said in self._said(state))
        return self._head_text(state) + said + self._ending

    def parse(self, text: str) -> S:
        """The state of a text; `text(parse(t))` is `t`.

        Raises:
            UsageError: it is no state of this world; says why.
        """
        head = self._head.match(text)
        try:
            if head is None:
                names = ", ".join([*self._random, *self._still])
                raise ValueError(f"it does not begin with {names}")
            values = head.groups()
            n_random = len(self._random)
            state = self._parse(text[head.end() :], values[:n_random], values[n_random:])
            if self.text(state) != text:
                raise ValueError("its facts are not in order")
        except ValueError as error:
            example = self.text(self.sample(Random(0)))
            raise UsageError(f"no state of the {self.name} world: {error}", f"such as {example!r}") from None
        return state

    def facts(self, state: S) -> dict[str, Fact]:
        """Every fact by name, with its place in the text."""
        head: list[tuple[str, str, Kind]] = []
        head += [(*said, "random") for said in zip(self._random, state.noise, strict=True)]
        head += [(*said, "still") for said in zip(self._still, state.still, strict=True)]
        pieces = [Said(f"{name} ", name, value, kind, ", ") for name, value, kind in head]
        found = {}
        place = 0
        for said in [*pieces, *self._said(state)]:
            start = place + len(said.words)
            end = start + len(said.value)
            found[said.fact] = Fact(said.value, said.kind, start, end)
            place = end + len(said.after)
        return found

    @property
    def noise_spans(self) -> list[tuple[int, int]]:
        """Characters [start, end) of every state's text that are drawn at random."""
        spans, place = [], 0
        for name, values in self._random.items():
            place += len(name) + 1
            spans.append((place, place + len(values[0])))
            place += len(values[0]) + 2
        return spans

    def masked(self, text: str) -> str:
        """A state's text, true or predicted, with its random facts hidden: what can be predicted.

        A prediction is an exact match when its masked text is that of the true next state.
        """
        for start, end in self.noise_spans:
            text = text[:start] + "?" * len(text[start:end]) + text[end:]
        return text

    def reached(self, state: S, goal: S) -> bool:
        """Whether two states are the same but for their random facts."""
        return self._core(state) == self._core(goal)

    def plan(self, state: S, goal: S, horizon: int) -> list[str] | None:
        """A shortest list of actions from state to goal; None if there is none of `horizon` or fewer."""
        if self.reached(state, goal):
            return []
        for layer in self._layers(state, horizon):
            if self._core(goal) in layer:
                return layer[self._core(goal)]
        return None

    def goal(self, state: S, rng: Random, distance: int) -> S | None:
        """A state that no fewer than `distance` actions reach; None where nothing is so far away."""
        *_, farthest = [{self._core(state): []}, *self._layers(state, distance)]
        return self.stirred(rng.choice(list(farthest)), rng) if farthest else None

    def _layers(self, state: S, depth: int) -> Iterator[dict[S, list[str]]]:
        """States first reached after 1, 2, ... `depth` actions, and how."""
        layer: dict[S, list[str]] = {self._core(state): []}
        known = set(layer)
        for _ in range(depth):
            following: dict[S, list[str]] = {}
            for at, actions in layer.items():
                for action in self.actions(at):
                    reached = self.effect(at, action)
                    if reached is not None and reached not in known:
                        known.add(reached)
                        following[reached] = [*actions, action]
            yield following
            layer = following

    def _core(self, state: S) -> S:
        """The state with the first value of each random fact."""
        return replace(state, noise=tuple(values[0] for values in self._random.values()))

    def _draw_noise(self, rng: Random) -> tuple[str, ...]:
        return tuple(rng.choice(values) for values in self._random.values())

    def _draw_still(self, rng: Random) -> tuple[str, ...]:
        return tuple(rng.choice(values) for values in self._still.values())

    def _head_text(self, state: S) -> str:
        """The facts of noise and scenery, with a comma after each."""
        values = (*state.noise, *state.still)
        return "".join(
            f"{name} {value}, " for name, value in zip((*self._random, *self._still), values, strict=True)
        )


AnyWorld = World[Any]


def _in_range(world: str, what: str, number: int, allowed: range) -> None:
    if number not in allowed:
        message = f"the {world} world has no {number} {what}"
        raise UsageError(message, f"{allowed[0]} to {allowed[-1]}")
