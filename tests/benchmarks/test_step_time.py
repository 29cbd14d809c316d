"""Step time of the reference preset on this machine: each saving beside the plain form, in one run.

`make bench` prints the table. Ratios are what counts: absolute times are this machine's.
"""

import statistics
import time

import pytest
import torch
from drawn_lines import line_batches

from jepalm.config import resolve
from jepalm.hardware import choose_hardware
from jepalm.objective import JepalmObjective
from jepalm.training.optimizer import build_optimizer

pytestmark = pytest.mark.benchmark

FORMS = (
    # name, precision, static shapes, packing, attention, fused AdamW
    ("float32, padded to 64, fused attention kernel", "fp32", True, False, "sdpa", False),
    ("bf16, where the processor has it", "auto", True, False, "sdpa", False),
    ("plain matrix-product attention", "auto", True, False, "matmul", False),
    ("padded to the longest text of the batch", "auto", False, False, "matmul", False),
    ("packed rows", "auto", False, True, "matmul", False),
    ("packed attention with its own backward", "auto", False, True, "auto", False),
    ("fused AdamW (what training does)", "auto", False, True, "auto", True),
)
WARM_UP, TIMED = 2, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the lines are prepared."""
    return tmp_path_factory.mktemp("bench")


def seconds_a_step(folder, precision, static_shapes, packing, attention, fused):
    config = resolve(overrides=[f"hardware.precision={precision}"])
    hardware = choose_hardware(config.hardware)
    batches = line_batches(config, folder, hardware.device, static=static_shapes)
    torch.manual_seed(0)
    objective = JepalmObjective(config.model, config.objective, 100, packing=packing, attention=attention).to(
        hardware.device
    )
    optimizer = build_optimizer(objective, config.optimizer)
    if not fused:
        optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-3, fused=False)
    times = []
    for step in range(WARM_UP + TIMED):
        hardware.synchronize()
        start = time.perf_counter()
        (batch,) = batches.at(step)
        with hardware.autocast():
            loss = objective(batch).total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        hardware.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[WARM_UP:])


def test_each_saving_beside_the_plain_form(folder):
    measured = [(name, seconds_a_step(folder, *form)) for name, *form in FORMS]
    first = measured[0][1]
    print(f"\n{'step of the shakespeare preset, batch 16':48} ms   times faster")
    for name, seconds in measured:
        print(f"{name:45} {1000 * seconds:6.0f}   {first / seconds:.2f}")
    assert measured[-1][1] < first
