"""A timed training step: figures that belong together, the profiler's and the part clock's sums."""

import pytest
import torch

from jepalm.evaluation.speed import training_step
from jepalm.evaluation.speed.training_step import PRODUCTS, STEPS, PartClock, measure_step, top_operators
from jepalm.hardware import Hardware, matrix_product
from jepalm.session import new_session
from jepalm.training.trial import PARTS

CPU = Hardware(torch.device("cpu"), "fp32", 1, False, "auto", False, "")


@pytest.fixture(scope="module")
def tick():
    """A clock on which every reading is a second after the one before."""
    now = iter(range(1_000_000))
    return lambda: float(next(now))


@pytest.fixture(scope="module")
def session(data_root, tiny_config):
    with new_session(tiny_config(), data_root) as found:
        yield found


@pytest.fixture(scope="module")
def speed(session, tick):
    return measure_step(session.objective, session.batches, session.config, session.hardware, 0.0, tick)


def test_tokens_are_those_of_the_timed_batches(session, speed):
    batches = [session.batches.at(number)[0] for number in range(STEPS)]
    assert speed.batch_size == 4
    assert speed.target_tokens == sum(int(batch.target.lengths.sum()) for batch in batches) / STEPS
    assert speed.read_tokens == sum(int(batch.source.lengths.sum()) for batch in batches) / STEPS


def test_rates_are_counts_over_the_median_step(speed):
    assert speed.seconds.median == 1 / STEPS  # one reading before the steps, one after
    assert speed.tokens_per_s == speed.target_tokens * STEPS
    assert speed.flops_per_s == speed.flops * STEPS
    assert speed.share_of_peak == speed.flops_per_s / speed.peak.flops_per_s


def test_an_unknown_peak_is_that_of_products_timed_between_the_steps(speed):
    assert speed.peak.measured
    assert speed.peak.flops_per_s == speed.products["fp32"] == PRODUCTS * 2 * 1024**3


def test_products_are_timed_in_every_precision_that_is_fast_here(session, monkeypatch):
    monkeypatch.setattr(training_step, "fast_bf16", lambda device: True)
    assert list(training_step._products(session.hardware)) == ["fp32", "bf16"]
    monkeypatch.setattr(training_step, "fast_bf16", lambda device: False)
    assert list(training_step._products(session.hardware)) == ["fp32"]


def test_every_part_of_a_step_has_its_time(speed):
    assert speed.parts == dict.fromkeys(PARTS, 1.0)  # a reading after each part of each step


def test_parts_are_summed_over_micro_batches_and_the_first_row_is_left_out():
    readings = iter([0.0, 9.0, 20.0, 21.0, 23.0, 24.0, 26.0, 30.0, 31.0, 33.0, 34.0, 36.0])
    clock = PartClock(lambda: None, lambda: next(readings))
    clock.start()
    clock.done("data")
    for _ in range(2):
        clock.start()
        for part in ("forward", "backward", "forward", "backward"):
            clock.done(part)
    assert clock.a_step(1) == {"data": 0.0, "forward": 2.0, "backward": 4.0, "optimizer": 0.0}


def test_operators_are_counted_a_step_and_shares_are_of_all(speed):
    product, _ = matrix_product(CPU)
    (most, *_) = found = top_operators(lambda: [product() for _ in range(6)], CPU, 3)
    assert (most.name, most.calls) == ("aten::mm", 2)
    assert sum(operator.share for operator in found) <= 1 + 1e-9
    assert {"aten::addmm", "aten::mm"} & {operator.name for operator in speed.operators}


def test_the_profilers_lines_stay_off_the_standard_error(capfd):
    top_operators(lambda: torch.ones(2) + 1, CPU, 1)
    assert capfd.readouterr() == ("", "")
