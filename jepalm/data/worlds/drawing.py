"""Transitions of a simulated world: walks, and their splits.

A walk starts at a drawn state and goes on for a few steps, so that states are those that actions make.
The split of a transition follows from a hash of its state without random facts, whatever the seed and the
number of pairs: no state of a held-out split is the source of a training pair. The splits `compositional` and
`longer` come from walks of their own.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import IO, NamedTuple

from jepalm.data.pairs.reading import PairSource
from jepalm.data.pairs.records import PairRecord
from jepalm.data.prepared import SPLITS, Simulated, SplitName
from jepalm.data.text.splitting import drawn_by_split, split_at
from jepalm.data.worlds import world_of
from jepalm.data.worlds.base import AnyWorld, Draw, State
from jepalm.errors import JepalmError, UsageError

ILLEGAL_SHARE = 0.2
"""Of the actions of a walk."""
MOST_IN_VAIN = 50_000
"""Walks without a new pair after which a world counts as exhausted."""
FURTHER_SPLITS: tuple[SplitName, ...] = ("compositional", "longer")
DRAWS: tuple[Draw, ...] = ("seen", "compositional", "longer")
_UNSEEN_SHARE = 0.5
"""How often a walk of the compositional split takes an action that training never has, where there is one."""


class Transition(NamedTuple):
    """One step of a walk."""

    state: State
    action: str
    next_state: State
    legal: bool


def walk(
    world: AnyWorld, state: State, rng: Random, steps: int | None = None, draw: Draw = "seen"
) -> list[Transition]:
    """Go on from a state: the world orders the verbs, and the actions of a verb are equally likely.

    Args:
        world: the simulator.
        state: where the walk starts.
        rng: draws actions and random facts.
        steps: length of the walk; the world's own when empty.
        draw: all but `compositional` keep to actions that training has.
    """
    made = []
    for _ in range(world.walk_steps if steps is None else steps):
        action, effect = _choose(world, state, rng, draw)
        following = world.stirred(state if effect is None else effect, rng)
        made.append(Transition(state, action, following, effect is not None))
        state = following
    return made


def split_of(world: AnyWorld, text: str, split: tuple[float, float, float]) -> SplitName:
    """The split of a state that training may have, by a hash of its text without random facts."""
    digest = blake2b(world.masked(text).encode(), digest_size=8).digest()
    return split_at(int.from_bytes(digest, "big"), split)


def rollouts(
    asked: Simulated, split: tuple[float, float, float], name: SplitName, steps: int, seed: int = 0
) -> Iterator[list[Transition]]:
    """Walks without end whose first pair belongs to a split, to measure predictions of many steps.

    Args:
        asked: the data's world, from its meta.
        split: the data's percentages, from its meta.
        name: the split.
        steps: length of each walk.
        seed: other seeds give other walks.
    """
    world = world_of(asked)
    draw = _draw_of(name)
    index = 0
    while True:
        rng = Random(f"rollout {name} {seed} {index}")
        made = walk(world, world.sample(rng, draw), rng, steps, draw)
        first = made[0]
        if _belongs(world, first, world.text(first.state), draw, split) == name:
            yield made
        index += 1


@dataclass
class DrawnTransitions(PairSource):
    """The pairs, kept in unnamed files that vanish with the process."""

    spools: Mapping[SplitName, IO[bytes]]
    illegal: int = 0
    """Actions without effect in train, validation and test."""
    unchanged: int = 0
    """Pairs there whose states differ in random facts or not at all."""
    n_bytes: int = 0

    def close(self) -> None:
        """Let go of the files."""
        for spool in self.spools.values():
            spool.close()

    def read(self) -> Iterator[tuple[bytes, list[PairRecord]]]:
        """Yield each pair as a row of its own."""
        for spool in self.spools.values():
            spool.seek(0)
            for line in spool:
                source, action, target = json.loads(line)
                yield line, [PairRecord(source, target, action)]


def draw_transitions(
    asked: Simulated,
    split: tuple[float, float, float],
    root: Path,
    advance: Callable[[int], None] = lambda count: None,
) -> DrawnTransitions:
    """Draw as many transitions as asked, and for each further split as many again as test has.

    Args:
        asked: world, sizes, number of pairs, seed.
        split: percent of the pairs in train, validation and test.
        root: folder on the disk that holds them meanwhile; made when missing.
        advance: called with the number of pairs drawn since the last call.

    Raises:
        UsageError: too few pairs for three splits, a size out of range, a folder that cannot be written.
        JepalmError: no room left on the disk.
    """
    room = pairs_by_split(asked.pairs, split)
    world = world_of(asked)
    with ExitStack() as stack:
        try:
            root.mkdir(parents=True, exist_ok=True)
            spools = {name: stack.enter_context(tempfile.TemporaryFile(dir=root)) for name in room}
            found = DrawnTransitions(spools)
            found.given = {name: count for name, count in room.items() if name != "train"}
            for draw in DRAWS:
                _fill(found, world, asked.seed, draw, split, room, advance)
        except OSError as error:
            if not root.is_dir():
                raise UsageError(f"{root} is not a folder", "--data-dir gives another") from None
            message = f"cannot write under {root}: {error.strerror}"
            raise JepalmError(message, "--data-dir gives another folder") from None
        stack.pop_all()  # the files stay open: they are what is returned
    return found


def pairs_by_split(pairs: int, split: tuple[float, float, float]) -> dict[SplitName, int]:
    """How many pairs each split gets; a further one as many as test.

    Raises:
        UsageError: too few for three splits.
    """
    room = drawn_by_split(pairs, split)
    return room | dict.fromkeys(FURTHER_SPLITS, room["test"])


def _fill(
    found: DrawnTransitions,
    world: AnyWorld,
    seed: int,
    draw: Draw,
    split: tuple[float, float, float],
    room: dict[SplitName, int],
    advance: Callable[[int], None],
) -> None:
    """Walk until the splits of one kind of walk are full."""
    wanted = [name for name in room if _draw_of(name) == draw]
    index = last = 0
    while any(room[name] for name in wanted):
        rng = Random(f"{draw} {seed} {index}")
        before = sum(room.values())
        text = ""
        for made in walk(world, world.sample(rng, draw), rng, draw=draw):
            text, following = text or world.text(made.state), world.text(made.next_state)
            name = _belongs(world, made, text, draw, split)
            if name is not None and room[name]:
                room[name] -= 1
                line = (json.dumps([text, made.action, following]) + "\n").encode()
                found.spools[name].write(line)
                found.n_bytes += len(line)
                if draw == "seen":
                    found.illegal += not made.legal
                    found.unchanged += world.masked(text) == world.masked(following)
            text = following
        index += 1
        drawn = before - sum(room.values())
        last = index if drawn else last
        advance(drawn)
        if index - last > MOST_IN_VAIN:
            missing = " and ".join(name for name in wanted if room[name])
            raise UsageError(
                f"the {world.name} world gives no more pairs for {missing}",
                f"ask for fewer pairs, a larger share of {missing}, or a larger world",
            )


def _belongs(
    world: AnyWorld, made: Transition, text: str, draw: Draw, split: tuple[float, float, float]
) -> SplitName | None:
    """The split of a pair; None where it belongs to none."""
    if draw == "compositional":
        return "compositional" if world.unseen(made.state, made.action) else None
    if draw == "longer":
        return "longer" if world.n_objects(made.state) > world.objects else None
    return split_of(world, text, split)


def _choose(world: AnyWorld, state: State, rng: Random, draw: Draw) -> tuple[str, State | None]:
    """An action and its effect: the first in a random order that is legal, or illegal, as drawn."""
    verbs: dict[str, list[str]] = {}
    for action in world.actions(state):
        verbs.setdefault(action.partition(" ")[0], []).append(action)
    order = world.tried(list(verbs), rng)
    said = [action for verb in order for action in rng.sample(verbs[verb], len(verbs[verb]))]
    if draw == "compositional" and rng.random() < _UNSEEN_SHARE:
        said.sort(key=lambda action: not world.unseen_action(state, action))
    want_legal = rng.random() >= ILLEGAL_SHARE
    for action in said:
        if draw != "compositional" and world.unseen_action(state, action):
            continue
        chosen = action, world.effect(state, action)
        if (chosen[1] is not None) == want_legal:
            break
    return chosen


def _draw_of(name: SplitName) -> Draw:
    return "seen" if name in SPLITS else "compositional" if name == "compositional" else "longer"
