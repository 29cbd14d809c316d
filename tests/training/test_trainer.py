import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jepalm.errors import JepalmError
from jepalm.objective.jepalm import JepalmObjective
from jepalm.objective.terms import Losses
from jepalm.training import distributed
from jepalm.training import trainer as trainer_module
from jepalm.training.checkpoint import find_checkpoint

Train = Callable[..., Any]
TERMS = ("reconstruction", "embedding", "length")


def manifest(runs: Path) -> dict[str, Any]:
    return json.loads((runs / "latest" / "manifest.json").read_text())


def saved(runs: Path) -> list[str]:
    return sorted(path.name for path in (runs / "latest" / "checkpoints").glob("step-*"))


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None]) -> None:
    """Do something at the start of a step, counted from 0."""
    seed_step = trainer_module.seed_step

    def seed(seed: int, place: int, rank: int) -> None:
        if place == step:
            act()
        seed_step(seed, place, rank)

    monkeypatch.setattr(trainer_module, "seed_step", seed)


def spoiled(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Make the length term of a step infinite."""
    forward = JepalmObjective.forward

    def infinite(objective: JepalmObjective, batch: Any) -> Losses:
        losses = forward(objective, batch)
        return Losses(
            losses.total * float("inf"),
            {**losses.terms, "length": torch.tensor(float("inf"))},
            losses.weights,
        )

    at_step(monkeypatch, step, lambda: monkeypatch.setattr(JepalmObjective, "forward", infinite))


def test_train_rows_have_the_documented_keys(trained_run: Any, rows_of: Train):
    expected = {"kind", "step", "epoch", "time", "batches", "train/loss", "train/lr", "train/grad_norm"}
    expected |= {"train/flops", "speed/steps_per_s", "speed/tokens_per_s"}
    for name in TERMS:
        expected |= {f"train/{kind}/{name}" for kind in ("term", "weight", "share", "grad_norm_encoder")}
    rows = rows_of(trained_run)
    assert [row["step"] for row in rows] == [2, 4, 6, 8]
    assert all(row.keys() == expected for row in rows)


def test_batches_hold_the_raw_terms_of_each_step_and_the_row_their_mean(trained_run: Any, rows_of: Train):
    for row in rows_of(trained_run):
        for name in TERMS:
            assert len(row["batches"][name]) == 2
            assert row[f"train/term/{name}"] == pytest.approx(sum(row["batches"][name]) / 2, rel=1e-3)


def test_loss_is_the_weighted_sum_and_shares_add_up_to_one(train_tiny: Train, rows_of: Train, tmp_path: Path):
    run = train_tiny(
        tmp_path, training__steps=2, objective__embedding__weight=0.5, objective__length__weight=3
    )
    (row,) = rows_of(run)
    parts = {name: row[f"train/weight/{name}"] * row[f"train/term/{name}"] for name in TERMS}
    assert [row[f"train/weight/{name}"] for name in TERMS] == [1.0, 0.5, 3.0]
    assert row["train/loss"] == pytest.approx(sum(parts.values()), rel=1e-3)
    assert sum(row[f"train/share/{name}"] for name in TERMS) == pytest.approx(1, abs=1e-4)
    assert row["train/share/length"] == pytest.approx(parts["length"] / row["train/loss"], rel=1e-3)


def test_the_encoder_gets_gradient_from_reconstruction_alone(trained_run: Any, rows_of: Train):
    for row in rows_of(trained_run):
        assert row["train/grad_norm_encoder/reconstruction"] > 0
        assert row["train/grad_norm_encoder/embedding"] == row["train/grad_norm_encoder/length"] == 0


def test_epoch_counts_passes_over_the_pairs(trained_run: Any, rows_of: Train):
    assert [row["epoch"] for row in rows_of(trained_run)] == [0.28571, 0.57143, 0.85714, 1.1429]


def test_validation_rows_samples_and_tensorboard_are_written(trained_run: Any, rows_of: Train):
    assert [row["step"] for row in rows_of(trained_run, "validation")] == [4, 8]
    samples = [json.loads(text) for text in trained_run.samples.read_text().splitlines()]
    assert [sample["step"] for sample in samples] == [4, 4, 8, 8]
    assert all(sample.keys() == {"step", "source", "target", "generated"} for sample in samples)
    assert len(list(trained_run.tensorboard.glob("events.out.tfevents.*"))) == 1


def test_a_finished_run_says_so_with_what_it_was_trained_on(trained_run: Any, rows_of: Train):
    found = trained_run.read_manifest()
    assert (found["status"], found["step"], found["steps"], found["resumed"]) == ("finished", 8, 8, [])
    assert found["parameters"]["total"] == sum(
        count for part, count in found["parameters"].items() if part != "total"
    )
    assert (found["data"]["name"], found["data"]["pairing"]) == ("lines", "lines")
    assert len(found["data"]["content_sha256"]) == 64
    assert [row["event"] for row in rows_of(trained_run, "event")] == ["finished"]


def test_best_is_the_checkpoint_of_the_lowest_validation_loss(trained_run: Any, rows_of: Train):
    losses = {row["step"]: row["validation/loss"] for row in rows_of(trained_run, "validation")}
    lowest = min(losses, key=losses.__getitem__)
    assert find_checkpoint(trained_run, "best").step == lowest
    best = trained_run.read_manifest()["best"]
    assert (best["step"], best["metric"]) == (lowest, "validation/loss")
    assert best["value"] == pytest.approx(losses[lowest], rel=1e-4)


def test_best_is_chosen_among_the_steps_that_are_saved(train_tiny: Train, tmp_path: Path):
    run = train_tiny(tmp_path, training__validate_every=1, training__checkpoint_every=4)
    assert find_checkpoint(run, "best").step in (4, 8)


def test_older_checkpoints_are_pruned(train_tiny: Train, tmp_path: Path):
    run = train_tiny(tmp_path, training__checkpoint_every=2, training__validate_every=8, training__keep=2)
    assert saved(tmp_path) == ["step-00000006", "step-00000008"]
    assert find_checkpoint(run).step == 8


def test_grad_norm_is_that_before_clipping(train_tiny: Train, rows_of: Train, tmp_path: Path):
    free = train_tiny(tmp_path / "free", training__steps=1)
    clipped = train_tiny(tmp_path / "clipped", training__steps=1, optimizer__grad_clip=1e-3)
    norms = [rows_of(run)[0]["train/grad_norm"] for run in (free, clipped)]
    assert norms[0] == norms[1] > 1e-3


def test_a_loss_that_is_not_finite_names_step_terms_and_last_good_checkpoint(
    train_tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spoiled(monkeypatch, 5)
    with pytest.raises(JepalmError) as caught:
        train_tiny(tmp_path)
    message = str(caught.value)
    assert message.startswith("the loss of step 6 is not finite: loss inf, reconstruction ")
    assert "length inf; last good checkpoint step-00000004 (lower optimizer.lr" in message
    assert caught.value.exit_code == 1


def test_after_a_loss_that_is_not_finite_nothing_is_saved_and_the_run_has_failed(
    train_tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spoiled(monkeypatch, 7)  # the last step, which is also due to be saved
    with pytest.raises(JepalmError):
        train_tiny(tmp_path)
    assert saved(tmp_path) == ["step-00000004"]
    assert manifest(tmp_path)["status"] == "failed"
    assert "the loss of step 8 is not finite" in manifest(tmp_path)["error"]


def test_before_the_first_checkpoint_there_is_none_to_name(
    train_tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spoiled(monkeypatch, 0)
    with pytest.raises(JepalmError, match=r"step 1 is not finite: .*; no checkpoint was saved yet"):
        train_tiny(tmp_path)


def test_weights_that_the_last_update_spoiled_are_not_saved(
    train_tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def spoil(optimizer: torch.optim.AdamW) -> None:
        optimizer.param_groups[0]["params"][0].data.fill_(float("nan"))

    at_step(monkeypatch, 7, lambda: monkeypatch.setattr(torch.optim.AdamW, "step", spoil))
    with pytest.raises(JepalmError, match="what is learned in step 8 is not finite"):
        train_tiny(tmp_path)
    assert saved(tmp_path) == ["step-00000004"]


def failing_save(monkeypatch: pytest.MonkeyPatch, bad_step: int) -> None:
    save = distributed.save_checkpoint

    def fail(run: Any, objective: Any, optimizer: Any, state: dict[str, Any]) -> Any:
        if state["step"] == bad_step:
            raise JepalmError("cannot save: no space")
        return save(run, objective, optimizer, state)

    monkeypatch.setattr(distributed, "save_checkpoint", fail)


def test_a_failing_intermediate_save_is_a_warning(
    data_root: Path, tiny_config: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import io

    from rich.console import Console

    from jepalm.session import new_session
    from jepalm.training.estimate import Estimate

    failing_save(monkeypatch, 4)
    out = io.StringIO()
    with new_session(tiny_config(), data_root) as session:
        run = session.open_folder(tmp_path, None, Estimate(0.0, 0, 0, 0))
        session.train(run, Console(file=out, width=200))
    assert "warning: cannot save: no space; training goes on without this checkpoint" in out.getvalue()
    assert saved(tmp_path) == ["step-00000008"]
    assert manifest(tmp_path)["status"] == "finished"


def test_a_failing_last_save_is_an_error(train_tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    failing_save(monkeypatch, 8)
    with pytest.raises(JepalmError, match="cannot save: no space"):
        train_tiny(tmp_path)
    assert saved(tmp_path) == ["step-00000004"]
    assert manifest(tmp_path)["status"] == "failed"


def test_the_same_seed_trains_the_same_and_another_does_not(train_tiny: Train, tmp_path: Path):
    digests = []
    for place, seed in enumerate((0, 0, 1)):
        run = train_tiny(tmp_path / str(place), training__steps=2, training__seed=seed)
        files = json.loads((find_checkpoint(run).path / "files.json").read_text())
        digests.append(files["model.safetensors"]["sha256"])
    assert digests[0] == digests[1] != digests[2]


def test_nothing_is_written_outside_the_run_folder(trained_run: Any):
    assert sorted(os.listdir(trained_run.path.parent)) == [trained_run.name, "latest"]
