"""Steps to be timed change nothing that stays."""

import pytest
import torch

from jepalm.hardware import choose_hardware
from jepalm.session import new_session
from jepalm.training.estimate import estimate
from jepalm.training.trial import PARTS, Trial


@pytest.fixture
def trial_of(data_root, tiny_config):
    def build(**changed):
        config = tiny_config(**changed)
        with new_session(config, data_root) as session:
            trial = Trial(session.objective, session.batches, config, session.hardware)
            return session.objective, trial

    return build


def test_the_objective_and_the_weights_of_the_copy_stay(trial_of):
    objective, trial = trial_of()
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    for number in range(3):
        trial.step(number)
    for state in (objective.state_dict(), trial.objective.state_dict()):
        assert all(torch.equal(before[name], value) for name, value in state.items())


def test_parts_follow_one_another_in_every_micro_batch(trial_of):
    _, trial = trial_of(training__micro_batch_size=2)
    parts = []
    trial.step(0, parts.append)
    assert parts == [PARTS[0], *(PARTS[1:3] * 2), PARTS[3]]


@pytest.mark.parametrize("weighting", ["ema", "uncertainty"])
def test_every_weighting_takes_its_step(trial_of, weighting):
    _, trial = trial_of(objective__weighting=weighting, optimizer__grad_clip=1.0)
    trial.step(0)
    trial.step(1)


def test_an_averaged_target_encoder_follows(trial_of):
    _, trial = trial_of(objective__targets__encoder="ema")
    trial.step(0)


def test_an_estimate_counts_the_first_steps_operations(data_root, tiny_config):
    from jepalm.training.flops import count_flops

    config = tiny_config()
    with new_session(config, data_root) as session:
        place = choose_hardware(config.hardware)
        found = estimate(session.objective, session.batches, config, place)
        trial = Trial(session.objective, session.batches, config, place)
        assert found.flops_per_step == count_flops(lambda: trial.step(0)) > 0
