"""Drawn transitions: their splits, and that they are a pure function of what was asked."""

import itertools
from pathlib import Path
from random import Random

import pytest

from jepalm.data.prepared import Simulated
from jepalm.data.worlds import WORLDS, drawing, world_of
from jepalm.data.worlds.drawing import draw_transitions, pairs_by_split, rollouts, split_of, walk
from jepalm.errors import JepalmError, UsageError

SPLIT = (80.0, 10.0, 10.0)


def asked(world="home", **changed):
    kind = WORLDS[world]
    sizes = {"size": kind.default_size, "objects": kind.default_objects, "noise": 1, "distractors": 1}
    return Simulated(**{"world": world, "pairs": 600, "seed": 0, **sizes, **changed})


def drawn(root: Path, request: Simulated, split=SPLIT):
    """The rows of each split."""
    found = draw_transitions(request, split, root)
    assert not list(root.iterdir())  # the files have no names
    pairs = [pair for _, [pair] in found.read()]
    found.close()
    place = len(pairs) - sum(found.given.values())
    rows = {"train": pairs[:place]}
    for name, count in found.given.items():
        rows[name] = pairs[place : place + count]
        place += count
    return rows


@pytest.fixture(scope="module", params=sorted(WORLDS))
def world_rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    wanted = asked(request.param)
    return world_of(wanted), drawn(tmp_path_factory.mktemp("drawn"), wanted)


def test_each_split_has_its_count(world_rows):
    counts = {name: len(rows) for name, rows in world_rows[1].items()}
    assert counts == {"train": 480, "validation": 60, "test": 60, "compositional": 60, "longer": 60}


def test_no_state_with_an_action_is_in_two_splits(world_rows):
    world, rows = world_rows
    trained = {(world.masked(row.source), row.action) for row in rows["train"]}
    states = {world.masked(row.source) for row in rows["train"]}
    for name in ("validation", "test", "compositional", "longer"):
        held_out = {(world.masked(row.source), row.action) for row in rows[name]}
        assert not held_out & trained
    assert not states & {world.masked(row.source) for name in ("validation", "test") for row in rows[name]}


def test_only_the_compositional_split_has_unseen_combinations(world_rows):
    world, rows = world_rows
    for name, pairs in rows.items():
        unseen = [world.unseen(world.parse(row.source), row.action) for row in pairs]
        assert all(unseen) if name == "compositional" else not any(unseen)


def test_only_states_of_the_longer_split_have_one_object_more(world_rows):
    world, rows = world_rows
    for name, pairs in rows.items():
        counts = {world.n_objects(world.parse(row.source)) for row in pairs}
        assert counts == {world.objects + 1} if name == "longer" else max(counts) <= world.objects


def test_pairs_are_what_the_simulator_does(world_rows):
    world, rows = world_rows
    for pairs in rows.values():
        for row in pairs:
            state = world.parse(row.source)
            assert row.action in world.actions(state)
            after = world.effect(state, row.action) or state
            assert world.masked(row.target) == world.masked(world.text(after))


def test_states_and_actions_are_short(world_rows):
    rows = [row for name in ("train", "test", "compositional") for row in world_rows[1][name]]
    assert max(len(text) for row in rows for text in (row.source, row.target)) <= 96
    assert max(len(row.action) for row in rows) <= 32


def test_one_action_in_five_is_illegal(tmp_path: Path):
    found = draw_transitions(asked("grid", pairs=2000), SPLIT, tmp_path)
    assert 340 < found.illegal < 460
    assert found.unchanged == found.illegal  # on the grid a legal action always does something
    found.close()


def test_the_same_request_gives_the_same_pairs_and_another_seed_others(tmp_path: Path):
    first = drawn(tmp_path, asked())
    assert drawn(tmp_path, asked()) == first
    assert not {row.source for row in drawn(tmp_path, asked(seed=1))["train"]} & {
        row.source for row in first["test"]
    }


def test_more_pairs_begin_with_the_same_ones(tmp_path: Path):
    few, many = drawn(tmp_path, asked(pairs=100)), drawn(tmp_path, asked(pairs=300))
    assert all(many[name][: len(rows)] == rows for name, rows in few.items())


def test_the_split_of_a_state_ignores_its_random_facts_and_the_seed():
    world = WORLDS["home"](3, 2)
    names = set()
    for seed in range(200):
        state = world.sample(Random(seed))
        name = split_of(world, world.text(state), SPLIT)
        assert split_of(world, world.text(world.stirred(state, Random(0))), SPLIT) == name
        names.add(name)
    assert names == {"train", "validation", "test"}


def test_a_walk_goes_on_from_where_it_is():
    world = WORLDS["home"](2, 3)
    steps = walk(world, world.sample(Random(5)), Random(5), 12)
    assert len(steps) == 12
    assert all(step.next_state == after.state for step, after in itertools.pairwise(steps))
    assert all(step.legal == world.legal(step.state, step.action) for step in steps)


@pytest.mark.parametrize("name", ["validation", "test", "compositional", "longer"])
def test_rollouts_begin_in_their_split(name):
    request = asked("grid")
    world = world_of(request)
    found = rollouts(request, SPLIT, name, steps=5)
    first = [next(found)[0] for _ in range(5)]
    if name == "compositional":
        assert all(world.unseen(step.state, step.action) for step in first)
    elif name != "longer":
        assert {split_of(world, world.text(step.state), SPLIT) for step in first} == {name}
    again = next(rollouts(request, SPLIT, name, steps=5))
    assert again[0] == first[0]
    assert len(again) == 5


def test_counts_of_the_splits():
    counts = pairs_by_split(1000, (90.0, 4.0, 6.0))
    assert counts == {"train": 900, "validation": 40, "test": 60, "compositional": 60, "longer": 60}
    with pytest.raises(UsageError, match="2 pairs are too few for train, validation and test"):
        pairs_by_split(2, SPLIT)


def test_a_share_that_no_state_falls_into_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drawing, "MOST_IN_VAIN", 30)
    with pytest.raises(UsageError, match="the home world gives no more pairs for test"):
        draw_transitions(asked(pairs=10), (90.0, 10 - 1e-12, 1e-12), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(drawing, "_fill", full)
    with pytest.raises(JepalmError, match="No space left on device"):
        draw_transitions(asked(), SPLIT, tmp_path)
