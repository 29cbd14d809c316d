"""A room seen from above: walls, boxes to push, keys and the doors that they open.

    bag a-
    #######
    #..@1.#
    #.#.b.#
    #...#.#
    #.2B..#
    #..#..#
    #######

`@` is you, `#` a wall, 1 to 9 are boxes, a to h keys, A to H their doors, `-` an empty place in the bag.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from zlib import crc32

from jepalm.data.worlds.base import Draw, Kind, Said, State, World
from jepalm.errors import UsageError

YOU, WALL, FLOOR, EMPTY = "@", "#", ".", "-"
BOXES = tuple("123456789")
KEYS = tuple("abcdefgh")
WAYS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
"""Rows and columns."""
OPPOSITE = {"up": "down", "down": "up", "left": "right", "right": "left"}
VERBS = ("go", "push", "take", "open")
_CELLS_A_WALL = 6
_BESIDE_SHARE = 0.95
"""How often a drawn state has you beside a thing."""
_GO_LAST_SHARE = 0.85
"""How often a walk goes on only where nothing else can be done."""
_UNSEEN_LAYOUTS = 10
"""One layout of walls in this many is left out of training."""


@dataclass(frozen=True, slots=True)
class GridState(State):
    """One moment in a room."""

    bag: str
    """Keys, in alphabetical order."""
    cells: str
    """Row after row, without the walls around."""


class Grid(World[GridState]):
    """`size` is the side of the room in cells; of the objects half are boxes, half keys with a door each."""

    name = "grid"
    sizes = range(4, 10)
    object_counts = range(1, 8)
    size_means = "cells a side"
    default_size = 5
    default_objects = 3

    def __init__(self, size: int, objects: int, noise: int = 1, distractors: int = 1) -> None:
        super().__init__(size, objects, noise, distractors)
        self._slots = (objects + 1) // 2
        self._n_walls = size * size // _CELLS_A_WALL
        if 3 * objects + 2 * self._n_walls > size * size:
            raise UsageError(
                f"a grid of {size} cells a side has no room for {objects} objects", "a larger size, or fewer"
            )
        self._edge = WALL * (size + 2)
        self._ending = f"{WALL}\n{self._edge}"

    def sample(self, rng: Random, draw: Draw = "seen") -> GridState:
        """Draw a room; each key lies on the floor or is in the bag."""
        noise, still = self._draw_noise(rng), self._draw_still(rng)
        broken = ""
        if draw == "compositional":
            broken = rng.choice(("walls", "verb", "box") if self.objects > 1 else ("walls", "verb"))
        boxes, keys = self._draw_names(rng, draw, broken)
        bag = "".join(sorted(key for key in keys if rng.random() < 0.5))
        movable = [YOU, *boxes, *map(str.upper, keys), *(key for key in keys if key not in bag)]
        while True:
            cells = self._draw_cells(rng, movable)
            if broken == "verb":
                cells = self._before_push(cells, next(filter(_way_without, boxes)))
            if _unseen_walls(cells) == (broken == "walls"):
                return GridState(noise, still, bag, cells)

    def actions(self, state: GridState) -> list[str]:
        """Four verbs, four ways."""
        return [f"{verb} {way}" for verb in VERBS for way in WAYS]

    def tried(self, verbs: Sequence[str], rng: Random) -> list[str]:
        """The verbs in a random order, `go` most often the last."""
        order = super().tried(verbs, rng)
        return sorted(order, key="go".__eq__) if rng.random() < _GO_LAST_SHARE else order

    def effect(self, state: GridState, action: str) -> GridState | None:
        """The state after the action; None where it is illegal."""
        verb, _, way = action.partition(" ")
        here = state.cells.index(YOU)
        ahead = self._beside(here, way)
        if ahead is None or verb not in VERBS:
            return None
        thing = state.cells[ahead]
        if verb == "go" and thing == FLOOR:
            return replace(state, cells=_with(state.cells, {here: FLOOR, ahead: YOU}))
        if verb == "push" and thing in BOXES:
            behind = self._beside(ahead, way)
            if behind is not None and state.cells[behind] == FLOOR:
                return replace(state, cells=_with(state.cells, {here: FLOOR, ahead: YOU, behind: thing}))
        if verb == "take" and thing in KEYS:
            bag = "".join(sorted(state.bag + thing))
            return replace(state, bag=bag, cells=_with(state.cells, {ahead: FLOOR}))
        if verb == "open" and thing.lower() in state.bag and thing.isupper():
            bag = state.bag.replace(thing.lower(), "")  # a key opens its door once
            return replace(state, bag=bag, cells=_with(state.cells, {ahead: FLOOR}))
        return None

    def n_objects(self, state: GridState) -> int:
        """Its boxes, and its keys, each together with its door."""
        things = (state.bag + state.cells).lower()
        return sum(thing in things for thing in (*BOXES, *KEYS))

    def unseen_state(self, state: GridState) -> bool:
        """Walls that training does not have, or a box in a room with its key or door."""
        things = (state.bag + state.cells).lower()
        boxes = [box for box in BOXES if box in things]
        return any(_key_without(box) in things for box in boxes) or _unseen_walls(state.cells)

    def unseen_action(self, state: GridState, action: str) -> bool:
        """A box pushed the way that it is never pushed in training."""
        verb, _, way = action.partition(" ")
        ahead = self._beside(state.cells.index(YOU), way) if verb == "push" else None
        return ahead is not None and _way_without(state.cells[ahead]) == way

    def _beside(self, place: int, way: str) -> int | None:
        """The next cell; None beyond the walls around, or if there is no such way."""
        if way not in WAYS:
            return None
        row, column = divmod(place, self.size)
        row, column = row + WAYS[way][0], column + WAYS[way][1]
        return row * self.size + column if 0 <= row < self.size and 0 <= column < self.size else None

    def _draw_cells(self, rng: Random, movable: list[str]) -> str:
        """Things on the floor, and you in most cases beside one: elsewhere there is little to do.

        Boxes, keys, and doors whose key is in the bag are equally likely.
        """
        things = WALL * self._n_walls + "".join(movable)
        cells = FLOOR * self.size**2
        cells = _with(cells, dict(zip(rng.sample(range(len(cells)), len(things)), things, strict=True)))
        here, lying = cells.index(YOU), set(movable[1:])
        kinds = [
            [thing for thing in movable if thing in BOXES],
            [thing for thing in movable if thing in KEYS],
            [thing for thing in movable if thing.lower() in KEYS and thing.lower() not in lying],
        ]
        thing = rng.choice(rng.choice([kind for kind in kinds if kind]))
        beside = [self._beside(cells.index(thing), way) for way in WAYS]
        free = [place for place in beside if place is not None and cells[place] == FLOOR]
        if free and rng.random() < _BESIDE_SHARE:
            cells = _with(cells, {here: FLOOR, rng.choice(free): YOU})
        return cells

    def _before_push(self, cells: str, box: str) -> str:
        """You where this box can be pushed the way that training never pushes it, if that place is free."""
        back = OPPOSITE[_way_without(box)]
        place = self._beside(cells.index(box), back)
        if place is None or cells[place] != FLOOR:
            return cells
        return _with(cells, {cells.index(YOU): FLOOR, place: YOU})

    def _draw_names(self, rng: Random, draw: Draw, broken: str) -> tuple[list[str], list[str]]:
        """Boxes and keys: combinations of training, or one of them broken."""
        fewest = 2 if broken == "box" else 1
        count = self.objects + 1 if draw == "longer" else rng.randint(fewest, self.objects)
        keys = rng.sample(KEYS, count // 2)
        strange = [box for box in BOXES if _key_without(box) in keys]
        known = [box for box in BOXES if box not in strange]
        boxes = rng.sample(known, count - len(keys))
        if broken == "box":
            boxes[0] = rng.choice(strange)
        if broken == "verb" and not any(map(_way_without, boxes)):
            boxes[0] = rng.choice([box for box in known if _way_without(box)])
        return boxes, keys

    def text(self, state: GridState) -> str:
        """The state in words and a map; many times faster than piece by piece."""
        rows = (state.cells[at : at + self.size] for at in range(0, len(state.cells), self.size))
        drawn = f"{WALL}\n{WALL}".join(rows)
        bag = f"{state.bag:{EMPTY}<{self._slots}}"
        return f"{self._head_text(state)}bag {bag}\n{self._edge}\n{WALL}{drawn}{self._ending}"

    def _said(self, state: GridState) -> list[Said]:
        said = [Said("bag ", "bag", f"{state.bag:{EMPTY}<{self._slots}}")]
        words = f"\n{self._edge}\n{WALL}"
        for place, cell in enumerate(state.cells):
            row, column = divmod(place, self.size)
            kind: Kind = "still" if cell == WALL else "changing"
            said.append(Said(words, f"row {row + 1} column {column + 1}", cell, kind))
            words = f"{WALL}\n{WALL}" if column == self.size - 1 else ""
        return said

    def _parse(self, text: str, noise: tuple[str, ...], still: tuple[str, ...]) -> GridState:
        first, *rows = text.split("\n")
        inside = [row[1:-1] for row in rows[1:-1]]
        if [len(row) for row in inside] != [self.size] * self.size:
            raise ValueError(f"it has no map of {self.size} rows of {self.size} cells inside walls")
        state = GridState(noise, still, first[4:].rstrip(EMPTY), "".join(inside))
        if state.cells.count(YOU) != 1:
            raise ValueError(f"you ({YOU}) are not in one place")
        things = [thing for thing in state.bag + state.cells if thing not in (YOU, WALL, FLOOR)]
        for thing in things:
            if thing not in (*BOXES, *KEYS) and thing.lower() not in KEYS:
                raise ValueError(f"it has no thing {thing!r}")
        if len(set(things)) < len(things):
            raise ValueError("it shows a thing twice")
        if any(thing not in KEYS for thing in state.bag) or len(state.bag) > self._slots:
            raise ValueError(f"its bag does not hold {self._slots} keys or fewer")
        if sorted(state.bag) != list(state.bag):
            raise ValueError("the keys in its bag are not in alphabetical order")
        return state


def _key_without(box: str) -> str:
    """The key that is never in a room with this box in training."""
    return KEYS[BOXES.index(box) % len(KEYS)]


def _way_without(box: str) -> str:
    """The way that this box is never pushed in training; every second one is pushed all ways."""
    place = BOXES.index(box) if box in BOXES else 1
    return "" if place % 2 else list(WAYS)[place // 2 % 4]


def _unseen_walls(cells: str) -> bool:
    places = bytes(place for place, cell in enumerate(cells) if cell == WALL)
    return crc32(places) % _UNSEEN_LAYOUTS == 0


def _with(cells: str, changed: dict[int, str]) -> str:
    for place, cell in changed.items():
        cells = cells[:place] + cell + cells[place + 1 :]
    return cells
