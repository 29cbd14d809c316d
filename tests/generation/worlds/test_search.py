"""Search in worlds small enough to know the best plan."""

import itertools

import pytest
import torch
from torch import Tensor

from jepalm.generation.worlds.search import cem, exhaustive, search


class Ladder:
    """States are whole numbers; the actions add 1, add 5, multiply by 3, and do nothing."""

    n_actions = 4

    def __init__(self, goal: int) -> None:
        self.goal = goal

    def follow(self, states: Tensor, rows: Tensor, actions: Tensor) -> Tensor:
        at = states[rows]
        return torch.stack((at + 1, at + 5, at * 3, at), 1)[torch.arange(len(rows)), actions]

    def distances(self, states: Tensor) -> list[float]:
        return (states - self.goal).abs().double().tolist()

    def names(self, states: Tensor) -> list[object]:
        return states.tolist()

    def keep(self, states: Tensor, rows: Tensor) -> Tensor:
        return states[rows]


START = torch.tensor([1])


def test_exhaustive_search_finds_the_only_shortest_plan():
    found = exhaustive(Ladder(54), START, 4)  # ((1 + 5) * 3) * 3
    assert (found.actions, found.distance, found.complete) == ((1, 2, 2), 0.0, True)


@pytest.mark.parametrize("goal", [7, 20, 33, 100])
def test_exhaustive_search_is_as_good_as_trying_every_sequence(goal: int):
    world = Ladder(goal)
    nearest = abs(1 - goal)
    for sequence in itertools.product(range(4), repeat=4):
        state = START
        for action in sequence:
            state = world.follow(state, torch.tensor([0]), torch.tensor([action]))
            nearest = min(nearest, abs(int(state) - goal))
    assert [exhaustive(world, START, 4, budget=budget).distance for budget in (340, 339)] == [nearest] * 2


def test_states_that_read_the_same_are_followed_once_where_the_budget_is_less_than_all_sequences():
    """After one step 2, 6, 3 are new and 1 is not: 4 + 3 * 4 predictions reach two steps, not 4 + 16."""
    every, once = (exhaustive(Ladder(1000), START, 2, budget=budget) for budget in (20, 19))
    assert (every.n_predicted, every.merged, every.complete) == (20, False, True)
    assert (once.n_predicted, once.merged, once.complete) == (16, True, True)
    assert (every.actions, every.distance) == (once.actions, once.distance)


def test_two_states_that_read_the_same_may_lead_to_different_places():
    """Of a state only the whole part can be read; the second action alone leaves the half that leads to 2."""

    class Halves(Ladder):
        n_actions = 2

        def follow(self, states: Tensor, rows: Tensor, actions: Tensor) -> Tensor:
            return torch.where(actions == 1, states[rows] + 0.5, states[rows])

        def names(self, states: Tensor) -> list[object]:
            return states.floor().tolist()

    start = torch.tensor([1.0])
    assert exhaustive(Halves(2), start, 2, budget=6).actions == (1, 1)
    assert exhaustive(Halves(2), start, 2, budget=5).actions == ()


@pytest.mark.parametrize("budget", [340, 339])
def test_the_plan_does_not_depend_on_how_many_states_are_followed_at_once(
    budget: int, monkeypatch: pytest.MonkeyPatch
):
    whole = exhaustive(Ladder(33), START, 4, budget=budget)
    monkeypatch.setattr("jepalm.generation.worlds.search.STATES_AT_ONCE", 3)
    assert exhaustive(Ladder(33), START, 4, budget=budget) == whole


def test_it_stops_where_nothing_new_is_met():
    class Still(Ladder):
        def follow(self, states: Tensor, rows: Tensor, actions: Tensor) -> Tensor:
            return states[rows]

    found = exhaustive(Still(3), START, 50)
    assert (found.actions, found.distance, found.n_predicted, found.complete) == ((), 2.0, 4, True)


def test_a_start_that_is_the_goal_needs_no_action():
    assert exhaustive(Ladder(1), START, 3).actions == ()
    assert cem(Ladder(1), START, 3).actions == ()


def test_the_budget_bounds_what_is_predicted_and_the_nearest_so_far_is_kept():
    found = exhaustive(Ladder(7), START, 6, budget=15)
    assert (found.actions, found.distance, found.n_predicted, found.complete) == ((1,), 1.0, 4, False)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_cross_entropy_method_finds_it_too(seed: int):
    found = cem(Ladder(54), START, 3, budget=2400, seed=seed)
    assert (found.actions, found.distance) == ((1, 2, 2), 0.0)
    assert found.n_predicted == 2400


def test_it_finds_what_drawing_alone_hardly_ever_finds():
    """Eight right actions of eight: one sequence in 65,536, and 5,000 are drawn."""

    class Lock(Ladder):
        code = torch.tensor([2, 0, 3, 1, 1, 0, 2, 3])

        def follow(self, states: Tensor, rows: Tensor, actions: Tensor) -> Tensor:
            depth, right = states[rows].T
            return torch.stack((depth + 1, right + (actions == self.code[depth])), 1)

        def distances(self, states: Tensor) -> list[float]:
            return (8 - states[:, 1]).double().tolist()

    found = cem(Lock(0), torch.tensor([[0, 0]]), 8, budget=40_000, seed=0)
    assert found.actions == (2, 0, 3, 1, 1, 0, 2, 3)


def test_draws_follow_the_seed():
    one, again, other = (cem(Ladder(999), START, 6, budget=96, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one.actions != other.actions


def test_auto_goes_on_where_the_budget_of_the_exhaustive_search_ends():
    small = search(Ladder(54), START, 3, budget=2400)
    assert small.complete
    assert small == exhaustive(Ladder(54), START, 3)
    long = search(Ladder(486), START, 5, budget=120)  # (1 + 5) * 3 * 3 * 3 * 3
    assert not long.complete
    assert long.distance <= exhaustive(Ladder(486), START, 5, budget=120).distance
    assert long.n_predicted > 120
