"""Losses that jump: the rule and its event."""

import math
import random

import pytest
import torch

from jepalm.data.batches import Batches
from jepalm.objective.jepalm import JepalmObjective
from jepalm.training.watch import FEWEST_BEFORE, highest_spike


def losses(n, spread=1.0, seed=0):
    chance = random.Random(seed)
    return [20.0 + chance.gauss(0, spread) for _ in range(n)]


def test_the_step_that_jumps_most_is_the_spike():
    spike = highest_spike(losses(100), [20.0, 40.0, 60.0, 21.0])
    assert (spike.place, spike.loss) == (2, 60.0)
    assert spike.median == pytest.approx(20, abs=0.5)


def test_a_jump_counts_in_deviations_and_in_shares_of_the_median():
    assert highest_spike(losses(100, spread=10.0), [70.0]) is None  # 5 standard deviations
    assert highest_spike(losses(100, spread=0.01), [29.0]) is None  # 45 % over the median
    assert highest_spike(losses(100, spread=0.01), [31.0]) is not None
    assert highest_spike([-20.0] * 100, [-11.0]) is None
    assert highest_spike([-20.0] * 100, [-9.0]) is not None


def test_too_few_steps_and_a_fast_fall_are_no_spike():
    assert highest_spike(losses(FEWEST_BEFORE - 1), [400.0]) is None
    falling = [100.0 * math.exp(-n / 20) for n in range(200)]
    assert highest_spike(falling[:100], falling[100:]) is None


def test_steps_before_count_across_rows():
    assert highest_spike([], [*losses(60), 60.0]).place == 60
    assert highest_spike(losses(60), [60.0]).place == 0


@pytest.fixture
def spiking(monkeypatch):
    """Make the loss of step 58 jump."""
    asked = []
    at, forward = Batches.at, JepalmObjective.forward

    def watched(self, step):
        asked.append(step)
        return at(self, step)

    def spiked(self, batch):
        found = forward(self, batch)
        if self.training and torch.is_grad_enabled() and asked[-1] == 57:
            found.total.data.mul_(30)
        return found

    monkeypatch.setattr(Batches, "at", watched)
    monkeypatch.setattr(JepalmObjective, "forward", spiked)


def test_a_spike_is_an_event_of_its_run(train_tiny, rows_of, spiking, tmp_path):
    rare = {"training__log_every": 20, "training__validate_every": 60, "training__checkpoint_every": 60}
    never = {"training__encoder_gradients_every": 0}
    run = train_tiny(tmp_path, training__steps=60, **rare, **never)
    (event,) = [row for row in rows_of(run, "event") if row["event"] == "spike"]
    assert (event["step"], event["spike_step"]) == (60, 58)
    assert event["loss"] > 2 * event["median"]
