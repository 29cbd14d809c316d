import math

import pytest

from jepalm.config import OptimizerConfig, TrainingConfig
from jepalm.errors import UsageError
from jepalm.training.schedule import Schedule, learning_rate

COSINE = OptimizerConfig(lr=1.0, min_lr=0.2, warmup_steps=4)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.2),  # (0 + 1) / (4 + 1)
        (3, 0.8),
        (4, 1.0),  # the peak
        (8, 0.2 + 0.4 * (1 + math.cos(math.pi / 4))),
        (12, 0.6),  # halfway between warm-up and end: the mean of both rates
        (19, 0.2 + 0.4 * (1 + math.cos(math.pi * 15 / 16))),  # the last step
    ],
)
def test_cosine_rate_worked_out_by_hand(step: int, expected: float):
    assert learning_rate(step, 20, COSINE) == pytest.approx(expected, rel=1e-12)


def test_rate_after_the_last_step_would_be_the_lowest():
    assert learning_rate(20, 20, COSINE) == pytest.approx(0.2)


def test_constant_schedule_warms_up_and_stays():
    constant = COSINE.model_copy(update={"schedule": "constant"})
    assert [learning_rate(step, 20, constant) for step in (0, 3, 4, 12, 19)] == [0.2, 0.8, 1.0, 1.0, 1.0]


def test_without_warm_up_the_first_step_has_the_peak():
    assert learning_rate(0, 20, OptimizerConfig(lr=0.5, warmup_steps=0)) == 0.5


def test_a_run_shorter_than_its_warm_up_reaches_the_peak_at_its_last_step():
    assert learning_rate(2, 3, OptimizerConfig(lr=0.5, warmup_steps=100)) == 0.5


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"epochs": 3}, Schedule(21, 7, 1, 1, 25)),
        ({"epochs": 2, "steps_per_epoch": 100}, Schedule(200, 100, 10, 10, 25)),
        ({"epochs": 2, "steps": 50}, Schedule(50, 7, 2, 2, 25)),
        ({"steps": 50, "validate_every": 9}, Schedule(50, 7, 9, 9, 25)),
        ({"steps": 50, "validate_every": 9, "checkpoint_every": 25}, Schedule(50, 7, 9, 25, 25)),
    ],
)
def test_schedule_of_a_config_and_7_steps_a_pass(settings: dict[str, int], expected: Schedule):
    assert Schedule.of(TrainingConfig(**settings), 7) == expected


@pytest.mark.parametrize(
    ("settings", "every"),
    [
        ({"steps": 2500, "validate_every": 250, "log_every": 10}, 130),  # a twentieth, up to a row
        ({"steps": 2500, "validate_every": 50, "log_every": 10}, 50),  # validation is more often
        ({"steps": 2500, "log_every": 10, "encoder_gradients_every": 7}, 10),
        ({"steps": 2500, "log_every": 10, "encoder_gradients_every": 0}, 0),
    ],
)
def test_encoder_gradients_are_measured_at_rows_of_metrics(settings: dict[str, int], every: int):
    schedule = Schedule.of(TrainingConfig(**settings), 7)
    due = [step for step in range(1, 2501) if schedule.encoder_gradients_due(step)]
    assert due == ([*range(every, 2500, every), 2500] if every else [])


def test_something_is_due_at_its_interval_and_at_the_end():
    schedule = Schedule(10, 5, 4, 4)
    assert [step for step in range(1, 11) if schedule.due(step, 4)] == [4, 8, 10]


def phases(*configs: dict[str, object], steps: int = 100) -> list[tuple[int, int]]:
    """(first, steps) of each phase of a run."""
    named = [{"name": str(place), **config} for place, config in enumerate(configs)]
    schedule = Schedule.of(TrainingConfig.model_validate({"steps": steps, "phases": named}), 7)
    return [(phase.first, phase.steps) for phase in schedule.phases]


@pytest.mark.parametrize(
    ("steps", "configs", "expected"),
    [
        (100, [{"share": 1}, {"share": 4}], [(0, 20), (20, 80)]),
        (100, [{}, {}, {}], [(0, 33), (33, 34), (67, 33)]),  # ends at 33.3 and 66.7, rounded
        (100, [{"steps": 10}, {"share": 1}, {"share": 2}], [(0, 10), (10, 30), (40, 60)]),
        (7, [{"steps": 6}, {}], [(0, 6), (6, 1)]),
    ],
)
def test_phases_divide_the_run_by_fixed_steps_and_then_by_shares(
    steps: int, configs: list[dict[str, object]], expected: list[tuple[int, int]]
):
    assert phases(*configs, steps=steps) == expected


@pytest.mark.parametrize("configs", [[{"steps": 10}, {}], [{"share": 1}, {"share": 99}]])
def test_a_run_too_short_for_its_phases_is_told(configs: list[dict[str, object]]):
    with pytest.raises(UsageError, match="10 steps are too few for the 2 phases"):
        phases(*configs, steps=10)


def test_a_step_belongs_to_one_phase_and_each_ends_with_everything_due():
    settings = {"steps": 10, "phases": [{"name": "a", "share": 3}, {"name": "b", "share": 7}]}
    schedule = Schedule.of(TrainingConfig.model_validate(settings), 7)
    assert [schedule.phase_of(step).name for step in (0, 2, 3, 9)] == ["a", "a", "b", "b"]
    assert [step for step in range(1, 11) if schedule.due(step, 4)] == [3, 4, 8, 10]


def test_steps_that_train_a_part_are_counted_over_phases():
    settings = [
        {"name": "a", "steps": 10},
        {"name": "b", "steps": 20, "train": ["predictor"]},
        {"name": "c", "train": ["encoder"]},
    ]
    schedule = Schedule.of(TrainingConfig.model_validate({"steps": 100, "phases": settings}), 7)
    assert [schedule.steps_training("encoder", step) for step in (0, 5, 10, 30, 31, 100)] == [
        (0, 80), (5, 80), (10, 80), (10, 80), (11, 80), (80, 80)
    ]  # fmt: skip
    assert Schedule(50, 7, 5, 5).steps_training("encoder", 20) == (20, 50)
