"""Names of places and things, and which of them training never sees together.

What is left out is fixed, whatever the seed: data drawn later keep it, and each name by itself is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from jepalm.data.worlds.base import Draw


@dataclass(frozen=True)
class Combinations:
    """Places stand beside others and hold things; things are objects of verbs."""

    places: Sequence[str]
    """Of an even number."""
    things: Sequence[str]
    verbs: Sequence[str]
    """Which verb a thing is never the object of, in turn; empty: of none."""

    def other_place(self, place: str) -> str:
        """The place that is never in a state with this one."""
        return self.places[(self.places.index(place) + len(self.places) // 2) % len(self.places)]

    def place_without(self, thing: str) -> str:
        """The place that is never in a state with this thing."""
        return self.places[self.things.index(thing) % len(self.places)]

    def verb_without(self, thing: str) -> str:
        """The verb that this thing is never the object of; empty for things that know all."""
        return self.verbs[self.things.index(thing) % len(self.verbs)]

    def unseen(self, places: Sequence[str], things: Sequence[str]) -> bool:
        """Whether a state with these names is left out of training."""
        return any(self.other_place(place) in places for place in places) or any(
            self.place_without(thing) in places for thing in things
        )

    def unseen_verb(self, verb: str, thing: str) -> bool:
        """Whether an action with these words is left out of training."""
        return thing in self.things and verb == self.verb_without(thing)

    def draw(
        self, rng: Random, draw: Draw, n_places: int, most_things: int
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Places and things in an order: as in training, or with one rule broken."""
        half = len(self.places) // 2
        places = [self.places[at + half * rng.randrange(2)] for at in rng.sample(range(half), n_places)]
        broken = ""
        if draw == "compositional":
            broken = rng.choice(("places", "thing", "verb") if n_places > 1 else ("thing", "verb"))
        if broken == "places":
            places[0] = self.other_place(places[1])
            rng.shuffle(places)
        strange = [thing for thing in self.things if self.place_without(thing) in places]
        known = [thing for thing in self.things if thing not in strange]
        count = most_things + 1 if draw == "longer" else rng.randint(1, most_things)
        things = rng.sample(known, count)
        if broken == "thing":
            things[rng.randrange(count)] = rng.choice(strange)
        if broken == "verb" and not any(map(self.verb_without, things)):
            things[rng.randrange(count)] = rng.choice([name for name in known if self.verb_without(name)])
        return tuple(places), tuple(things)


def check_names(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Check names read from a text.

    Raises:
        ValueError: one is unknown, or there twice.
    """
    for name in names:
        if name not in known:
            raise ValueError(f"it has no {what} {name!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"it names a {what} twice")
