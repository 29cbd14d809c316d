"""Steps to be timed change nothing that stays."""

import time
from contextlib import nullcontext

import pytest
import torch

from jepalm.session import new_session
from jepalm.training.estimate import estimate
from jepalm.training.flops import step_flops
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


def test_a_running_mean_moves_by_the_terms_of_the_whole_step(trial_of):
    _, trial = trial_of(objective__weighting="ema", training__micro_batch_size=2, optimizer__grad_clip=1.0)
    weighting = trial.objective.weighting
    with torch.no_grad():
        parts = [trial.objective(batch).terms for batch in trial.batches.at(0)]
    terms = torch.stack([sum(part[name] for part in parts) for name in weighting.balanced])
    trial.step(0)
    assert torch.allclose(weighting.mean, torch.ones(len(terms)).lerp(terms, 1 - weighting.decay))


def test_the_learned_weights_of_uncertainty_stay(trial_of):
    _, trial = trial_of(objective__weighting="uncertainty")
    trial.step(0)
    assert not trial.objective.weighting.log_variances.any()


def test_an_averaged_target_encoder_follows(trial_of):
    objective, trial = trial_of(objective__targets__encoder="ema")
    with torch.no_grad():
        for parameter in trial.objective.target_encoder.parameters():
            parameter.zero_()
    trial.step(0)
    share = 1 - objective.config.targets.ema_start
    averages, trained = trial.objective.target_encoder.parameters(), objective.model.encoder.parameters()
    assert all(torch.allclose(a, share * b) for a, b in zip(averages, trained, strict=True))


def test_an_estimate_counts_the_operations_of_a_step_as_a_run_does_without_the_optimizers(
    data_root, tiny_config
):
    config = tiny_config(optimizer__kind="muon")
    with new_session(config, data_root) as session:
        found = estimate(session.objective, session.batches, config, session.hardware)
        counted = step_flops(session.objective, session.batches.at(0), nullcontext())
    assert found.flops_per_step == counted > 0


def test_an_estimate_counts_the_gradients_on_the_encoder_where_they_are_measured(
    data_root, tiny_config, monkeypatch
):
    calls = []
    monkeypatch.setattr(Trial, "measure_encoder_gradients", lambda trial, number: calls.append(number))
    seconds = iter([*[0.0, 1.0] * 8, *[0.0, 0.0], *[0.0, 4.0] * 2])  # 8 steps, then 3 measurements
    monkeypatch.setattr(time, "perf_counter", lambda: next(seconds))
    for every, expected in ((4, 1.0 + 4.0 * 2 / 8), (0, 1.0)):
        config = tiny_config(training__encoder_gradients_every=every)
        with new_session(config, data_root) as session:
            found = estimate(session.objective, session.batches, config, session.hardware)
        assert found.seconds_per_step == expected
        seconds = iter([0.0, 1.0] * 8)
    assert calls == [1, 2, 3]
