import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jepalm.config import read_config
from jepalm.errors import JepalmError, UsageError
from jepalm.run import RunFolder, locked
from jepalm.session import new_session, resumed_session
from jepalm.training.estimate import Estimate

FREE = Estimate(0.0, 0, 0, 0)


@pytest.fixture
def run(trained_run: Any, tmp_path: Path) -> RunFolder:
    """A copy of the finished run."""
    return RunFolder(shutil.copytree(trained_run.path, tmp_path / "copy", symlinks=True))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.dim=32", "model.dim cannot change on resuming: copy has 16, asked 32"),
        ("optimizer.lr=0.5", "optimizer.lr cannot change"),
        ("objective.length.weight=2", "objective.length.weight cannot change"),
        ("data.name=windows", "data.name cannot change"),
        ("preset=shakespeare", "preset cannot change"),
        ("training.batch_size=8", "training.batch_size cannot change"),
        ("training.micro_batch_size=2", "training.micro_batch_size cannot change"),
        ("training.seed=9", "training.seed cannot change"),
        ("training.steps_per_epoch=3", "training.steps_per_epoch cannot change"),
    ],
)
def test_resuming_refuses_what_would_make_it_another_run(
    run: RunFolder, data_root: Path, setting: str, message: str
):
    with (
        pytest.raises(UsageError, match=message) as caught,
        resumed_session(run.path, {}, [setting], data_root),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_length_intervals_and_hardware_may_change(run: RunFolder, data_root: Path):
    flags = {"training.steps": 20, "hardware.precision": "bf16"}
    settings = ["training.log_every=5", "training.keep=3", "hardware.packing=false"]
    with resumed_session(run.path, flags, settings, data_root) as session:
        config = session.config
    assert (config.training.steps, config.training.log_every, config.training.keep) == (20, 5, 3)
    assert (config.hardware.precision, config.hardware.packing) == ("bf16", False)


def test_a_longer_run_goes_on_from_the_last_checkpoint(
    run: RunFolder, resume_tiny: Callable[..., None], rows_of: Callable[..., list[dict[str, Any]]]
):
    resume_tiny(run.path, "training.steps=10")
    assert [row["step"] for row in rows_of(run)] == [2, 4, 6, 8, 10]
    assert read_config(run.config).training.steps == 10
    assert run.read_manifest()["status"] == "finished"


def test_a_finished_run_has_nothing_left_to_train(run: RunFolder, data_root: Path):
    with (
        resumed_session(run.path, {}, [], data_root) as session,
        pytest.raises(
            UsageError, match=r"nothing left to train: step 8 of 8 \(give more --epochs or --steps\)"
        ),
    ):
        session.cost()


def test_data_changed_under_a_run_is_an_error(run: RunFolder, data_root: Path):
    run.update_manifest(data={"content_sha256": "0" * 64})
    with (
        pytest.raises(JepalmError, match="lines was changed since copy was trained") as caught,
        resumed_session(run.path, {}, [], data_root),
    ):
        pass
    assert caught.value.exit_code == 1


def test_a_run_without_checkpoints_cannot_be_resumed(run: RunFolder, data_root: Path):
    shutil.rmtree(run.checkpoints)
    with (
        pytest.raises(UsageError, match="has no checkpoint yet"),
        resumed_session(run.path, {}, [], data_root),
    ):
        pass


def test_a_run_that_is_being_trained_is_left_as_it_is(run: RunFolder, data_root: Path):
    before = run.config.read_text()
    with (
        locked(run),
        pytest.raises(JepalmError, match="is being trained by another process"),
        resumed_session(run.path, {"training.steps": 20}, [], data_root),
    ):
        pass
    assert run.config.read_text() == before


def test_missing_data_is_a_usage_error(tiny_config: Callable[..., Any], tmp_path: Path):
    with pytest.raises(UsageError, match="no prepared data lines"), new_session(tiny_config(), tmp_path):
        pass


def test_cost_writes_nothing_and_leaves_the_weights_alone(
    tiny_config: Callable[..., Any], data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import torch

    monkeypatch.chdir(tmp_path)
    with new_session(tiny_config(), data_root) as session:
        before = {name: value.clone() for name, value in session.objective.state_dict().items()}
        cost = session.cost()
        after = session.objective.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert list(tmp_path.iterdir()) == []
    numbers = sum(value.numel() for value in before.values())
    assert cost.disk == (session.config.training.keep + 2) * 3 * 4 * numbers
    assert cost.flops_per_step > 6 * numbers
    assert cost.seconds_per_step > 0


def test_the_manifest_tells_what_a_run_needs_to_be_made_again(trained_run: Any):
    found = trained_run.read_manifest()
    assert (found["seed"], found["preset"], found["world_size"], found["device"]) == (0, "nano", 1, "cpu")
    assert (found["steps"], found["steps_per_epoch"]) == (8, 7)
