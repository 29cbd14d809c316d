"""`jepalm train` of a preset whose teacher is missing: asked, agreed, or told in one line."""

import json
from unittest import mock

import pytest

from jepalm import session
from jepalm.cli import console
from jepalm.config import resolve

SETTINGS = (
    "--preset=shakespeare-oneshot-small",
    "--data=windows",
    "--steps=2",
    "--batch-size=4",
    "model.dim=16",
    "model.n_heads=2",
    "model.ffn_mult=2",
    "model.encoder.n_layers=1",
    "model.predictor.n_layers=1",
    "model.source_len=6",
    "model.target_len=4",
    "objective.unmasking.until=1",
    "training.validate_every=2",
    "training.validation_batches=1",
    "hardware.threads=1",
    "hardware.precision=fp32",
)
TEACHER = [
    "data.name=windows",
    "model.dim=16",
    "model.n_heads=2",
    "model.ffn_mult=2",
    "model.causal.n_layers=1",
    "model.causal.context_len=12",
    "training.steps=2",
    "training.batch_size=4",
    "training.validate_every=2",
    "training.validation_batches=1",
    "hardware.threads=1",
]


@pytest.fixture
def train(jepalm_command, data_root, tmp_path, monkeypatch):
    """The command, with a tiny model in place of the preset's teacher."""
    monkeypatch.setattr(session, "resolve", lambda name, flags: resolve(name, overrides=TEACHER))
    return lambda *words: jepalm_command("train", *SETTINGS, "--data-dir", data_root, *words, cwd=tmp_path)


def manifests(runs):
    return [json.loads((run / "manifest.json").read_text()) for run in sorted(runs.glob("2*"))]


def test_with_agreement_the_teacher_is_trained_first_and_taken_again(train, tmp_path):
    code, out, err = train("--yes")
    assert code == 0, err
    assert "teacher   no finished run shakespeare-ar-small" in out
    runs = tmp_path / "runs"
    names = {row["name"]: row["status"] for row in manifests(runs)}
    assert names == {"shakespeare-ar-small": "finished", "shakespeare-oneshot-small": "finished"}
    (teacher,) = runs.glob("*-shakespeare-ar-small")
    (run,) = runs.glob("*-shakespeare-oneshot-small")
    assert f"teacher: {teacher}" in (run / "config.yaml").read_text().replace("runs/", f"{runs}/", 1)
    code, out, err = train()
    assert code == 0, err
    assert len(manifests(runs)) == 3


def test_without_a_terminal_one_line_names_the_command(train, tmp_path):
    code, out, err = train()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "train it first: jepalm train --preset shakespeare-ar-small --data " in err
    assert ", or give --yes" in err
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_refuses_what_training_would_and_shows_the_teacher_that_it_would_train(train, tmp_path):
    code, _, err = train("--dry-run")
    assert code == 2
    assert "no finished run shakespeare-ar-small" in err
    code, out, err = train("--dry-run", "--yes")
    assert (code, err) == (0, "")
    assert "model     shakespeare-ar-small" in out
    assert not (tmp_path / "runs").exists()


def test_on_a_terminal_it_shows_the_cost_asks_and_takes_no(train, tmp_path, monkeypatch):
    monkeypatch.setattr(console, "on_terminal", lambda: True)
    with mock.patch("typer.confirm", return_value=False) as asked:
        code, out, err = train()
    assert (code, asked.call_count) == (2, 1)
    assert "ms a step (timed)" in out
    assert "train it first: jepalm train --preset shakespeare-ar-small" in err
    assert not (tmp_path / "runs").exists()


def test_a_teacher_that_is_no_preset_is_not_trained(train):
    code, _, err = train("--yes", "objective.coupling.teacher=nobody")
    assert code == 2
    assert "no finished run nobody" in err


def test_the_teacher_has_the_data_and_the_hardware_of_its_pupil(tmp_path):
    pupil = resolve("shakespeare-oneshot-small", overrides=["data.name=mine", "hardware.threads=1"])
    config = session.untrained_teacher(pupil, tmp_path)
    assert (config.preset, config.data.name) == ("shakespeare-ar-small", "mine")
    assert config.hardware == pupil.hardware
