"""A hall with rooms around it: doors, lights, and things that one carries.

Which names training never sees together is fixed, whatever the seed: data drawn later keep it, and each name
by itself is seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from jepalm.data.worlds.base import Draw, Said, State, World

HALL = "hall"
HELD = "held"
"""Where a carried thing is."""
ROOMS = ("bath", "loft", "shed", "barn", "yard", "shop", "deck", "nook", "dorm", "cell")
THINGS: tuple[str, ...] = ("lamp", "book", "coin", "ball", "rope", "drum", "vase", "fork", "sock", "ring")
THINGS += ("bell", "kite", "mask", "pipe", "soap", "comb", "doll", "sack", "tray", "plug")
THINGS += ("bowl", "cane", "card", "cork", "dish", "flag", "film", "foil", "gear", "glue")
THINGS += ("gown", "harp", "hose", "horn", "hoop", "iron", "jade", "knob", "lens", "lock")
THINGS += ("lute", "milk", "nail", "note", "opal", "pear", "pill", "pump", "reed", "rake")
THINGS += ("robe", "ruby", "sail", "salt", "seal", "shoe", "silk", "spur", "tent", "tile")
_NEAR_SHARE = 0.6
"""Of the things of a drawn state: those in the room where one is, or held."""
_THINGS_FIRST_SHARE = 0.3
"""How often a walk takes or drops if it can: doors and lights are always at hand."""
_VERB_WITHOUT = ("take", "", "drop", "")
"""Verb that a thing is never the object of in training, in turn; empty: none."""
_ROOM = re.compile(r"(\w{4}) (open|shut) (lit|dim)")


@dataclass(frozen=True, slots=True)
class HomeState(State):
    """One moment in a house."""

    rooms: tuple[str, ...]
    """Around the hall; each has a door to the hall and no other."""
    is_open: tuple[bool, ...]
    """Doors, by room."""
    is_lit: tuple[bool, ...]
    """The hall, then the rooms."""
    you: str
    """The room where one is."""
    things: tuple[tuple[str, str], ...]
    """Each with its room, or `held`."""


class Home(World[HomeState]):
    """`size` counts the rooms, the hall among them."""

    name = "home"
    sizes = range(2, 7)
    object_counts = range(1, 9)
    size_means = "rooms"
    default_size = 3
    default_objects = 2

    def sample(self, rng: Random, draw: Draw = "seen") -> HomeState:
        """Draw a house."""
        noise, still = self._draw_noise(rng), self._draw_still(rng)
        rooms, names = self._draw_names(rng, draw)
        places = (HALL, *rooms)
        you = rng.choice(places)
        near, anywhere = (you, HELD), (*places, HELD)
        return HomeState(
            noise,
            still,
            rooms,
            is_open=tuple(rng.random() < 0.5 for _ in rooms),
            is_lit=tuple(rng.random() < 0.5 for _ in places),
            you=you,
            things=tuple(
                (name, rng.choice(near if rng.random() < _NEAR_SHARE else anywhere)) for name in names
            ),
        )

    def actions(self, state: HomeState) -> list[str]:
        """Go, open, shut, switch, take, drop."""
        said = [f"go to the {room}" for room in (HALL, *state.rooms)]
        said += [f"{verb} the {room} door" for verb in ("open", "shut") for room in state.rooms]
        said += [f"switch {way} the light" for way in ("on", "off")]
        return said + [f"{verb} the {thing}" for verb in ("take", "drop") for thing, _ in state.things]

    def tried(self, verbs: Sequence[str], rng: Random) -> list[str]:
        """The verbs in a random order, those of things more often in front."""
        order = super().tried(verbs, rng)
        if rng.random() < _THINGS_FIRST_SHARE:
            order.sort(key=lambda verb: verb not in ("take", "drop"))
        return order

    def effect(self, state: HomeState, action: str) -> HomeState | None:
        """The state after the action; None where it is illegal."""
        match action.split(" "):
            case ["go", "to", "the", room]:
                return self._go(state, room)
            case ["open" | "shut" as verb, "the", room, "door"] if room in state.rooms:
                door = state.rooms.index(room)
                if state.you in (HALL, room) and state.is_open[door] != (verb == "open"):
                    return replace(state, is_open=_flipped(state.is_open, door))
            case ["switch", "on" | "off" as way, "the", "light"]:
                light = (HALL, *state.rooms).index(state.you)
                if state.is_lit[light] != (way == "on"):
                    return replace(state, is_lit=_flipped(state.is_lit, light))
            case ["take", "the", thing] if (thing, state.you) in state.things:
                return _placed(state, thing, HELD)
            case ["drop", "the", thing] if (thing, HELD) in state.things:
                return _placed(state, thing, state.you)
        return None

    def n_objects(self, state: HomeState) -> int:
        """Its things."""
        return len(state.things)

    def unseen_state(self, state: HomeState) -> bool:
        """A room beside the one it never stands beside, or a thing in a house with its room."""
        rooms = state.rooms
        return any(_other_room(room) in rooms for room in rooms) or any(
            _room_without(thing) in rooms for thing, _ in state.things
        )

    def unseen_action(self, state: HomeState, action: str) -> bool:
        """A thing taken that is only ever dropped, or the other way round."""
        verb, thing = action.partition(" ")[0], action.rpartition(" ")[2]
        return thing in THINGS and verb == _verb_without(thing)

    def _draw_names(self, rng: Random, draw: Draw) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Rooms and things in an order: as in training, or with one combination that it never has."""
        half, n_rooms = len(ROOMS) // 2, self.size - 1
        rooms = [ROOMS[at + half * rng.randrange(2)] for at in rng.sample(range(half), n_rooms)]
        broken = ""
        if draw == "compositional":
            broken = rng.choice(("rooms", "thing", "verb") if n_rooms > 1 else ("thing", "verb"))
        if broken == "rooms":
            rooms[0] = _other_room(rooms[1])
            rng.shuffle(rooms)
        strange = [thing for thing in THINGS if _room_without(thing) in rooms]
        known = [thing for thing in THINGS if thing not in strange]
        count = self.objects + 1 if draw == "longer" else rng.randint(1, self.objects)
        things = rng.sample(known, count)
        if broken == "thing":
            things[rng.randrange(count)] = rng.choice(strange)
        if broken == "verb" and not any(map(_verb_without, things)):
            lacking = [thing for thing in known if _verb_without(thing)]  # in some houses all are strange
            things[rng.randrange(count)] = rng.choice(lacking or strange)
        return tuple(rooms), tuple(things)

    def _go(self, state: HomeState, room: str) -> HomeState | None:
        side = state.you if room == HALL else room  # the room whose door is walked through
        if side not in state.rooms or state.you not in (HALL, side) or state.you == room:
            return None
        return replace(state, you=room) if state.is_open[state.rooms.index(side)] else None

    def _said(self, state: HomeState) -> list[Said]:
        said = [Said("you ", "you", state.you), Said(f", {HALL} ", f"{HALL} light", _light(state.is_lit[0]))]
        for room, is_open, is_lit in zip(state.rooms, state.is_open, state.is_lit[1:], strict=True):
            said.append(Said(f", {room} ", f"{room} door", "open" if is_open else "shut"))
            said.append(Said(" ", f"{room} light", _light(is_lit)))
        return said + [Said(f", {thing} ", thing, place) for thing, place in state.things]

    def _parse(self, text: str, noise: tuple[str, ...], still: tuple[str, ...]) -> HomeState:
        you, _, rest = text.partition(", ")
        hall, *others = rest.split(", ")
        matches = [_ROOM.fullmatch(other) for other in others[: self.size - 1]]
        rooms = [match.groups() for match in matches if match]
        if len(rooms) < self.size - 1:
            raise ValueError(f"it does not say door and light of {self.size - 1} rooms")
        names = tuple(room for room, _, _ in rooms)
        places = (HALL, *names)
        things = tuple((fact[:4], fact[5:]) for fact in others[self.size - 1 :])
        _check_names("room", names, ROOMS)
        _check_names("thing", [thing for thing, _ in things], THINGS)
        if not you.startswith("you ") or you[4:] not in places:
            raise ValueError("it does not say in which of its rooms you are")
        if hall not in (f"{HALL} lit", f"{HALL} dim"):
            raise ValueError("it does not say whether the hall is lit or dim")
        if any(place not in (*places, HELD) for _, place in things):
            raise ValueError("a thing is neither held nor in one of its rooms")
        is_lit = (hall.endswith("lit"), *(light == "lit" for _, _, light in rooms))
        is_open = tuple(door == "open" for _, door, _ in rooms)
        return HomeState(noise, still, names, is_open, is_lit, you[4:], things)


def _other_room(room: str) -> str:
    """The room that is never in a house with this one in training."""
    return ROOMS[(ROOMS.index(room) + len(ROOMS) // 2) % len(ROOMS)]


def _room_without(thing: str) -> str:
    """The room that is never in a house with this thing in training."""
    return ROOMS[THINGS.index(thing) % len(ROOMS)]


def _verb_without(thing: str) -> str:
    """The verb that this thing is never the object of in training; empty for things that know all."""
    return _VERB_WITHOUT[THINGS.index(thing) % len(_VERB_WITHOUT)]


def _check_names(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"it has no {what} {name!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"it names a {what} twice")


def _light(is_lit: bool) -> str:
    return "lit" if is_lit else "dim"


def _flipped(flags: tuple[bool, ...], place: int) -> tuple[bool, ...]:
    return (*flags[:place], not flags[place], *flags[place + 1 :])


def _placed(state: HomeState, thing: str, place: str) -> HomeState:
    things = tuple((name, place if name == thing else where) for name, where in state.things)
    return replace(state, things=things)
