"""Times in turns, on a clock that the test moves."""

import pytest

from jepalm.evaluation.speed.timing import LEAST_ROUNDS, TimingQuartiles, in_turns, ratio


class Clock:
    """Stands still but for what actions take."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def actions(clock, **takes):
    done = []

    def make(name):
        def action():
            done.append(name)
            clock.now += takes[name]

        return action

    return done, {name: make(name) for name in takes}


def test_actions_take_turns_after_one_untimed_round():
    clock = Clock()
    done, given = actions(clock, a=1.0, b=3.0)
    times = in_turns(given, 0.0, lambda: None, clock)
    assert times == {"a": [1.0] * LEAST_ROUNDS, "b": [3.0] * LEAST_ROUNDS}
    assert done == ["a", "b"] * (1 + LEAST_ROUNDS)


def test_no_round_begins_after_the_seconds():
    clock = Clock()
    _, given = actions(clock, a=1.0, b=3.0)
    assert len(in_turns(given, 17.0, lambda: None, clock)["a"]) == 5  # rounds begin at 0, 4, 8, 12, 16


def test_an_action_ends_when_the_device_is_done():
    clock, asked = Clock(), []

    def finish():
        clock.now += sum(asked)
        asked.clear()

    times = in_turns({"a": lambda: asked.append(2.0)}, 0.0, finish, clock)
    assert (
        times["a"] == [2.0] * LEAST_ROUNDS
    )  # the untimed round's work is waited for before the clock starts


def test_times_are_summed_up_by_median_and_quartiles():
    assert TimingQuartiles.of([5.0, 1.0, 4.0, 2.0, 3.0]) == TimingQuartiles(3.0, 2.0, 4.0, 5)


def test_a_ratio_compares_neighbours_in_time():
    found = ratio([10.0, 40.0, 12.0], [1.0, 5.0, 1.0])  # the second round was slowed down as a whole
    assert found.median == pytest.approx(10)
    assert (found.low, found.high) == (pytest.approx(9), pytest.approx(11))
