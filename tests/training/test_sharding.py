"""A model divided over two processes learns what one process learns, and goes on at any number of them."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from together import only_run, resume, together, train, train_until_one_dies

from jepalm.config import resolve
from jepalm.errors import UsageError
from jepalm.training.checkpoint import MODEL, OPTIMIZER, find_checkpoint
from jepalm.training.shards import read_whole

pytestmark = pytest.mark.distributed
CHANGED = {
    "objective__targets__encoder": "ema",
    "objective__embedding__detach_source": "false",
    "optimizer__grad_clip": 1.0,
    "training__micro_batch_size": 1,
    "training__keep": 5,
    "model__gradient_checkpointing": "true",
}


def cut(run, folder):
    """A copy of a run, killed after its first checkpoint."""
    copy = folder / run.name
    shutil.copytree(run.path, copy, symlinks=True)  # such as best
    shutil.rmtree(copy / "checkpoints" / "step-00000008")
    return copy


def tensors(run):
    """Weights and moments of the last step."""
    checkpoint = find_checkpoint(run)
    assert checkpoint.step == 8
    plain = checkpoint.path / OPTIMIZER
    moments = load_file(plain) if plain.exists() else read_whole(checkpoint.path / "optimizer")
    return {**load_file(checkpoint.path / MODEL), **{name: x.reshape(-1) for name, x in moments.items()}}


def assert_alike(one, other, exact=False):
    one, other = tensors(one), tensors(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        value = value.reshape(other[name].shape)
        alike = torch.equal(value, other[name]) if exact else torch.allclose(value, other[name], 1e-4, 1e-5)
        assert alike, f"{name}: {(value - other[name]).abs().max():.3g}"


def test_two_processes_divide_a_model_and_others_go_on(
    data_root, tiny_settings, train_tiny, resume_tiny, rows_of, tmp_path
):
    alone = train_tiny(tmp_path / "alone", **CHANGED)
    settings = tiny_settings(hardware__parallel="fsdp", **CHANGED)
    assert together(tmp_path / "said", train, settings, data_root, tmp_path / "two") == ["", ""]
    run = only_run(tmp_path / "two")
    assert_alike(run, alone)
    manifest = json.loads(run.manifest.read_text())
    assert (manifest["status"], manifest["world_size"], manifest["parallel"]) == ("finished", 2, "fsdp")
    for kind in ("train", "validation"):
        for one, other in zip(rows_of(alone, kind), rows_of(run, kind), strict=True):
            for key in (key for key in one if key.startswith(("train/loss", "train/term", "validation/"))):
                assert other[key] == pytest.approx(one[key], rel=1e-3, abs=1e-4), key

    again = [cut(run, tmp_path / "again"), cut(alone, tmp_path / "from-one")]
    for path in again:  # processes of their own, as torchrun starts them
        said = together(tmp_path / "said", resume, path, ["hardware.parallel=fsdp"], data_root, timeout=120)
        assert said == ["", ""]
    assert_alike(only_run(tmp_path / "again"), run, exact=True)
    assert_alike(only_run(tmp_path / "from-one"), alone)
    resume_tiny(cut(run, tmp_path / "to-one"))
    assert_alike(only_run(tmp_path / "to-one"), run)


def test_a_process_that_dies_ends_the_other_with_its_name(data_root, tiny_settings, tmp_path):
    settings, runs = tiny_settings(training__keep=5), tmp_path / "runs"
    first, second = together(tmp_path / "said", train_until_one_dies, settings, data_root, runs, 5)
    assert second == "killed"
    last = first.strip().splitlines()[-1]
    assert "JepalmError: process 1 (pid" in last
    assert "died; the last checkpoint is step-00000004 (go on with: jepalm train --resume" in last
    assert json.loads(only_run(runs).manifest.read_text())["status"] == "failed"


@pytest.mark.parametrize(
    "settings",
    [
        ["optimizer.kind=muon"],
        ["hardware.compile=true"],
        ["objective.generation.weight=1", "objective.generation.train_decoder=false"],
    ],
)
def test_what_needs_a_whole_model_is_refused_in_one_line(settings):
    with pytest.raises(UsageError, match=r"hardware\.parallel=fsdp does not go with"):
        resolve("nano", overrides=["hardware.parallel=fsdp", *settings])
