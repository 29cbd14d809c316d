import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from jepalm import hardware
from jepalm.config import HardwareConfig
from jepalm.errors import JepalmError, UsageError
from jepalm.generation.loading import TrainedModel, load_trained, writing_hardware
from jepalm.run import open_run
from jepalm.training import tuning

CPU = HardwareConfig(device="cpu", precision="fp32", threads=1)


def test_the_model_is_loaded_from_the_run_folder_alone(lines: TrainedModel, trained_run: Any):
    weights = load_file(trained_run.checkpoints / "step-00000008" / "model.safetensors")
    assert (lines.pairing, lines.checkpoint.step, lines.objective.training) == ("lines", 8, False)
    assert all(torch.equal(value, weights[name]) for name, value in lines.objective.state_dict().items())


def test_the_data_of_a_run_is_checked_against_its_manifest(lines: TrainedModel, data_root: Path):
    assert lines.data(data_root).path == data_root / "lines"
    other = dataclasses.replace(
        lines,
        config=lines.config.model_copy(
            update={"data": lines.config.data.model_copy(update={"name": "windows"})}
        ),
    )
    with pytest.raises(JepalmError, match="was changed since"):
        other.data(data_root)


def test_a_run_of_one_family_is_not_taken_for_the_other(lines: TrainedModel):
    assert lines.jepalm is lines.objective
    assert not lines.is_causal
    with pytest.raises(UsageError, match="is no causal run"):
        _ = lines.causal


def test_a_checkpoint_without_the_decoder_of_its_config_is_named(trained_run: Any, tmp_path: Path):
    folder = tmp_path / "run"
    shutil.copytree(trained_run.path, folder, symlinks=True)
    config = folder / "config.yaml"
    tree = yaml.safe_load(config.read_text())
    tree["model"]["decoder"] = {"kind": "recurrent"}
    tree["objective"]["length"] = {"kind": "none"}
    config.write_text(yaml.safe_dump(tree))
    with pytest.raises(JepalmError, match="step-00000008 does not fit the model of its config"):
        load_trained(open_run(folder), "last", CPU)


def test_a_manifest_that_says_nothing_of_the_data_is_read(trained_run: Any, tmp_path: Path):
    folder = tmp_path / "run"
    shutil.copytree(trained_run.path, folder, symlinks=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "data": None}))
    assert load_trained(open_run(folder), "last", CPU).pairing == "pairs"


def test_where_others_have_the_cores_a_model_writes_on_one_thread(monkeypatch: Any):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    for free, threads in ((False, 1), (True, 2)):
        monkeypatch.setattr(tuning, "cores_are_free", lambda free=free: free)
        place = writing_hardware(HardwareConfig(device="cpu"), {})
        assert (place.threads, chosen) == (threads, [1])


@pytest.mark.parametrize("here", [True, False])
def test_precision_is_the_one_of_the_training_on_its_own_cpu_alone(
    trained_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: bool
):
    monkeypatch.setattr(hardware, "fast_bf16", lambda device: True)
    copy = open_run(Path(shutil.copytree(trained_run.path, tmp_path / "run", symlinks=True)))
    if not here:
        copy.update_manifest(device_name="another processor")
    assert load_trained(copy, "last", HardwareConfig(device="cpu", threads=1)).hardware.precision == (
        "fp32" if here else "bf16"
    )
