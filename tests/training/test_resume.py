"""The proof of exact resumption: stopping and going on changes no bit."""

import hashlib
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jepalm.errors import Interrupted, JepalmError
from jepalm.training import trainer as trainer_module
from jepalm.training.checkpoint import MODEL, OPTIMIZER, find_checkpoint

CASES = {
    "plain": {},
    "dropout": {"model__dropout": 0.2},
    "micro_batches": {"training__micro_batch_size": 2},
    "windows": {"data__name": "windows"},
    "spans": {"data__name": "spans", "objective__length__kind": "none", "objective__local__weight": 1.0},
    "light_decoder_and_muon": {
        "model__decoder__kind": "recurrent",
        "objective__length__kind": "none",
        "objective__generation__weight": 1.0,
        "optimizer__kind": "muon",
    },
    "ngram_expert": {
        "data__name": "windows",
        "model__decoder__kind": "recurrent",
        "model__decoder__ngram": 3,
        "objective__length__kind": "none",
        "objective__generation__weight": 1.0,
        "training__micro_batch_size": 2,
    },
}


def signalled(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Send SIGTERM while the step is computed after which training should stop."""
    seed_step = trainer_module.seed_step

    def seed(seed: int, step: int, rank: int) -> None:
        if step == after - 1:
            signal.raise_signal(signal.SIGTERM)
        seed_step(seed, step, rank)

    monkeypatch.setattr(trainer_module, "seed_step", seed)


def tensors(run: Any) -> dict[str, torch.Tensor]:
    folder = find_checkpoint(run).path
    weights, moments = load_file(folder / MODEL), load_file(folder / OPTIMIZER)
    assert {name.split("/")[0] for name in moments} == weights.keys()
    return {**weights, **{f"moment {name}": value for name, value in moments.items()}}


@pytest.fixture
def stopped(train_tiny: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Train until the signal; return the run's folder."""

    def stop(after: int, **changed: object) -> Path:
        with monkeypatch.context() as patch:
            signalled(patch, after)
            with pytest.raises(Interrupted):
                train_tiny(tmp_path / "stopped", **changed)
        return (tmp_path / "stopped" / "latest").resolve()

    return stop


@pytest.mark.parametrize("case", CASES)
def test_stopping_and_going_on_equals_training_straight_through(
    train_tiny: Any, resume_tiny: Any, rows_of: Any, stopped: Any, tmp_path: Path, case: str
):
    """12 steps of 7 a pass, stopped in the first pass between two log points: rows are the same, too."""
    changed = {"training__steps": 12, **CASES[case]}
    straight = train_tiny(tmp_path / "straight", **changed)
    path = stopped(5, **changed)
    resume_tiny(path)
    resumed = type(straight)(path)
    one, other = tensors(straight), tensors(resumed)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    for kind in ("train", "validation"):
        assert rows_of(straight, kind, timed=False) == rows_of(resumed, kind, timed=False)
    assert straight.samples.read_text() == resumed.samples.read_text()


def test_steps_of_no_row_are_saved_and_those_of_one_are_not(resume_tiny: Any, stopped: Any, trained_run: Any):
    for step, n in ((5, 1), (6, 0)):
        run = type(trained_run)(stopped(step))
        assert len(find_checkpoint(run).state().unlogged.get("raw", ())) == n
    rare = dict.fromkeys(("training__log_every", "training__validate_every", "training__checkpoint_every"), 8)
    run = type(trained_run)(stopped(5, **rare))
    resume_tiny(run.path, "training.log_every=2")  # of more steps than a row holds from now on
    assert find_checkpoint(run).state().unlogged == {}


def test_steps_of_other_terms_are_a_fault_of_the_checkpoint(resume_tiny: Any, stopped: Any):
    path = stopped(5)
    folder = path / "checkpoints" / "step-00000005"
    state = json.loads((folder / "state.json").read_text())
    for damaged in ({"raw": [[1.0]], "weighted": [[]]}, {"raw": [[None]]}, {"raw": 1, "weighted": 1}):
        text = json.dumps({**state, "unlogged": {**state["unlogged"], **damaged}})
        (folder / "state.json").write_text(text)
        files = json.loads((folder / "files.json").read_text())
        digest = hashlib.sha256(text.encode()).hexdigest()
        files["state.json"] = {"bytes": len(text), "sha256": digest}
        (folder / "files.json").write_text(json.dumps(files))
        with pytest.raises(JepalmError, match=r"state\.json does not fit the terms"):
            resume_tiny(path)


def test_an_interrupted_run_says_how_to_go_on_and_has_saved_its_step(stopped: Any):
    path = stopped(5)
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["status"], manifest["step"]) == ("interrupted", 5)
    assert (path / "checkpoints" / "step-00000005").is_dir()


def test_the_error_of_an_interruption_names_the_command_and_the_exit_code(
    train_tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    signalled(monkeypatch, 3)
    with pytest.raises(Interrupted, match=r"saved step 3 \(go on with: jepalm train --resume .+\)") as caught:
        train_tiny(tmp_path)
    assert caught.value.exit_code == 143


def test_signal_handlers_are_put_back(stopped: Any):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    stopped(3)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_rows_of_a_stretch_that_crashed_after_its_checkpoint_are_dropped(
    resume_tiny: Any, rows_of: Any, stopped: Any, trained_run: Any
):
    path = stopped(6)
    run = type(trained_run)(path)
    with open(run.metrics, "a") as rows:
        rows.write('{"kind": "train", "step": 7, "train/loss": 1}\n{"kind": "train", "st')
    resume_tiny(path)
    assert [row["step"] for row in rows_of(run)] == [2, 4, 6, 8]
    assert [row["event"] for row in rows_of(run, "event")] == ["interrupted", "resumed", "finished"]
    assert run.read_manifest()["resumed"] == [6]


def test_resuming_goes_back_past_a_damaged_checkpoint(
    train_tiny: Any, resume_tiny: Any, stopped: Any, tmp_path: Path
):
    straight = train_tiny(tmp_path / "straight")
    path = stopped(6)
    (path / "checkpoints" / "step-00000006" / MODEL).write_bytes(b"torn")
    resume_tiny(path)
    resumed = type(straight)(path)
    assert resumed.read_manifest()["resumed"] == [4]
    assert all(torch.equal(value, tensors(resumed)[name]) for name, value in tensors(straight).items())
