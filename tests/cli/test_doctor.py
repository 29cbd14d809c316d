"""`jepalm doctor` names what is broken, with a remedy, and its exit code says whether something is."""

import json
import re
import shutil

import pytest


@pytest.fixture
def work(trained_run, data_root, tmp_path):
    """A copy of a finished run and of its data."""
    shutil.copytree(trained_run.path, tmp_path / "run", symlinks=True)
    shutil.copytree(data_root, tmp_path / "data")
    return tmp_path


def findings(jepalm_command, work, *arguments):
    code, out, err = jepalm_command("doctor", *arguments, "--data-dir", "data", "--json", cwd=work)
    assert err == ""
    tree = json.loads(out)
    assert code == (0 if tree["ok"] else 1)
    return tree["findings"]


def of_level(found, level):
    return [f"{one['what']}: {one['text']}" for one in found if one["level"] == level]


def test_a_whole_run_and_its_data_have_no_failure(jepalm_command, work):
    found = findings(jepalm_command, work, "run")
    assert of_level(found, "failure") == []
    assert {one["text"] for one in found if one["what"] == "checkpoint"} >= {"step-00000008: whole"}


def test_a_flipped_bit_in_a_checkpoint_is_a_failure_with_a_remedy(jepalm_command, work):
    weights = work / "run" / "checkpoints" / "step-00000008" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    failed = [one for one in findings(jepalm_command, work, "run") if one["level"] == "failure"]
    assert [one["text"] for one in failed] == [
        "step-00000008: model.safetensors does not match its fingerprint"
    ]
    assert re.fullmatch("jepalm train --resume run --data-dir .* sets it aside", failed[0]["remedy"])


def test_a_flipped_bit_in_prepared_data_is_a_failure(jepalm_command, work):
    shard = work / "data" / "lines" / "train-00000.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    failed = of_level(findings(jepalm_command, work), "failure")
    assert len(failed) == 1
    assert "data/lines" in failed[0]


def test_counts_that_are_cut_short_are_a_failure(jepalm_command, train_tiny, data_root, tmp_path):
    light = {"model__decoder__kind": "recurrent", "objective__length__kind": "none"}
    run = train_tiny(tmp_path, **light, model__decoder__ngram=3, objective__generation__weight=1)
    counts = run.path / "ngram.safetensors"
    assert "counts: ngram.safetensors: whole" in of_level(doctored(jepalm_command, run, data_root), "ok")
    counts.write_bytes(counts.read_bytes()[:-8])
    assert of_level(doctored(jepalm_command, run, data_root), "failure") == [f"counts: {counts} is damaged"]


def doctored(jepalm_command, run, data_root):
    _, out, _ = jepalm_command("doctor", run.path, "--data-dir", data_root, "--json", cwd=run.path)
    return json.loads(out)["findings"]
