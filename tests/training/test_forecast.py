"""The plan of a run on GPUs that are not here."""

import pytest
import torch
from typer.testing import CliRunner

from jepalm.cli import app
from jepalm.config import resolve
from jepalm.errors import UsageError
from jepalm.hardware import choose_hardware
from jepalm.objective import build_objective
from jepalm.training.flops import step_flops
from jepalm.training.forecast import Rates, forecast

SIZES = ["model.dim=32", "model.n_heads=2", "training.batch_size=8", "training.steps=100", "training.keep=1"]


def planned(devices=1, **changed):
    config = resolve("nano", overrides=[*SIZES, *(f"{k.replace('__', '.')}={v}" for k, v in changed.items())])
    return config, forecast(config, devices, Rates(price=2.0), vocab_size=50, tokens=1e6)


def test_operations_are_those_of_a_step_here(make_batch):
    config, found = planned(model__source_len=12, model__target_len=12)
    place = choose_hardware(resolve("nano", overrides=["hardware.device=cpu", "hardware.threads=1"]).hardware)
    objective = build_objective(config.model, config.objective, 50, place)
    objective.packing = False
    batch = make_batch((12,) * 8, (12,) * 8)
    counted = step_flops(objective, [batch], torch.autocast("cpu", enabled=False))
    assert found.flops_per_step == pytest.approx(counted, rel=0.02)
    assert found.parameters == sum(p.numel() for p in objective.parameters())


def test_time_and_cost_follow_from_operations_and_rates():
    _, found = planned(4)
    rate = 4 * 989e12 * 0.4
    assert found.seconds == pytest.approx(100 * found.flops_per_step / rate)
    assert found.cost == pytest.approx(found.seconds / 3600 * 4 * 2.0)
    assert found.passes == pytest.approx(100 * 8 * 128 / 1e6)
    assert found.checkpoint_bytes == 3 * 12 * found.parameters


def test_fsdp_divides_the_state_and_checkpointing_the_activations():
    _, whole = planned(8)
    _, divided = planned(8, hardware__parallel="fsdp")
    assert whole.state_bytes == 20 * whole.parameters
    assert (2 + 4) * whole.parameters < divided.state_bytes < whole.state_bytes
    _, again = planned(8, model__gradient_checkpointing="true")
    assert again.activation_bytes < whole.activation_bytes
    assert 1.2 * whole.flops_per_step < again.flops_per_step < 1.5 * whole.flops_per_step


def test_what_cannot_be_planned_is_one_line():
    with pytest.raises(UsageError, match="does not divide over 3 devices"):
        planned(3)
    with pytest.raises(UsageError, match="without the data"):
        forecast(resolve("nl-rx-jepalm"), 8, Rates())
    with pytest.raises(UsageError, match="peak of Abacus is not known"):
        forecast(resolve("openwebtext"), 8, Rates(gpu="Abacus"))


def test_devices_go_with_a_dry_run():
    found = CliRunner().invoke(app, ["train", "--devices", "8"])
    assert "--devices goes with --dry-run" in str(found.exception)
