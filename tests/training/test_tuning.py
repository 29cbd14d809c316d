import pytest
import torch

from jepalm.session import new_session, resumed_session
from jepalm.training import tuning
from jepalm.training.tuning import SECONDS_A_CHOICE, TimedChoice, cores_are_free, fastest, mean_seconds


@pytest.fixture(autouse=True)
def _threads_as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def clock_of(seconds):
    """A clock of whose readings each second one is so much later than the one before."""
    now = 0.0
    for taken in seconds:
        yield now
        now += taken
        yield now


def test_the_lowest_mean_is_chosen():
    slow, fast = TimedChoice("bf16", 1, 0.09), TimedChoice("fp32", 1, 0.04)
    assert fastest([slow, fast]) == fast


@pytest.mark.parametrize(("seconds", "threads"), [(0.030, 1), (0.027, 1), (0.020, 2)])
def test_two_threads_have_to_gain_half_as_much_again(seconds, threads):
    timed = [TimedChoice("fp32", 1, 0.040), TimedChoice("fp32", 2, seconds)]
    assert fastest(timed).threads == threads


def test_what_was_not_tried_is_not_chosen():
    assert fastest([TimedChoice("fp32", 1, 0.5), TimedChoice("fp32", 2, None)]).threads == 1


def test_one_step_that_waits_for_a_core_counts_in_the_mean():
    done = []
    clock = clock_of([0.1, 0.1, 0.1, 2.8])
    assert mean_seconds(done.append, lambda: next(clock)) == pytest.approx(3.1 / 4)
    assert done == [0, 1, 2, 3, 4]  # the first one warms up


def test_at_least_two_steps_are_timed_however_long_they_take():
    clock = clock_of([10 * SECONDS_A_CHOICE] * 2)
    assert mean_seconds(lambda number: None, lambda: next(clock)) == pytest.approx(10 * SECONDS_A_CHOICE)


@pytest.mark.parametrize(("together", "free"), [(0.001, True), (0.0019, True), (0.5, False)])
def test_cores_are_free_if_two_threads_take_less_than_twice_as_long(together, free):
    clock = clock_of([0.001, together])
    assert cores_are_free(lambda: next(clock)) is free


@pytest.fixture
def two_choices(monkeypatch):
    """Timed steps in which float32 takes twice as long."""
    monkeypatch.setattr(tuning, "fast_bf16", lambda device: True)
    seconds = iter([0.2, 0.1])
    monkeypatch.setattr(tuning, "mean_seconds", lambda step: next(seconds))


def test_the_choice_and_its_times_stand_in_the_manifest(tmp_path, two_choices, train_tiny):
    run = train_tiny(tmp_path, hardware__precision="auto")
    manifest = run.read_manifest()
    assert manifest["precision"] == "bf16"
    assert [(found["precision"], found["seconds"]) for found in manifest["timed"]] == [
        ("fp32", 0.2),
        ("bf16", 0.1),
    ]


def test_resuming_keeps_the_choice_of_the_run(tmp_path, two_choices, train_tiny, data_root):
    run = train_tiny(tmp_path, hardware__precision="auto")
    with resumed_session(run.path, {"training.epochs": 9}, [], data_root) as session:
        assert (session.hardware.precision, session.timed) == ("bf16", [])


def test_nothing_is_timed_where_both_are_set(data_root, tiny_config):
    with new_session(tiny_config(), data_root) as session:
        assert session.timed == []
        assert (session.hardware.precision, session.hardware.threads) == ("fp32", 1)
