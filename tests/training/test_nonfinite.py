"""A loss that is not finite: the run stops, or goes back and leaves the batches out."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch

from jepalm.data.batches import Batches
from jepalm.errors import JepalmError
from jepalm.objective.jepalm import JepalmObjective
from jepalm.run import open_run
from jepalm.training.checkpoint import find_checkpoint


@pytest.fixture
def bad_batches(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[int]], list[int]]:
    """Make the loss of some batches not finite, by their number; returns the numbers asked for, in order."""

    def make(bad: set[int]) -> list[int]:
        asked: list[int] = []
        at, forward = Batches.at, JepalmObjective.forward

        def watched(self: Batches, step: int) -> Any:
            asked.append(step)
            return at(self, step)

        def poisoned(self: JepalmObjective, batch: Any) -> Any:
            losses = forward(self, batch)
            if self.training and torch.is_grad_enabled() and asked[-1] in bad:
                losses.total.data.mul_(torch.nan)
            return losses

        monkeypatch.setattr(Batches, "at", watched)
        monkeypatch.setattr(JepalmObjective, "forward", poisoned)
        return asked

    return make


def test_by_default_the_run_stops_and_names_the_last_good_checkpoint(train_tiny, bad_batches, tmp_path):
    bad_batches({5})
    with pytest.raises(JepalmError, match=r"step 6 is not finite.*last good checkpoint step-00000004"):
        train_tiny(tmp_path)


def test_rollback_goes_to_the_checkpoint_and_leaves_the_batches_out(
    train_tiny, bad_batches, rows_of, tmp_path
):
    """The batch of step 6 is bad: steps 5 to 8 train on the batches after it."""
    asked = bad_batches({5})
    run = train_tiny(tmp_path, training__on_nonfinite="rollback", training__encoder_gradients_every=0)
    assert [step for step in asked if step > 3][:2] == [4, 5]
    assert asked[-4:] == [6, 7, 8, 9]
    assert [row["step"] for row in rows_of(run)] == [2, 4, 6, 8]
    event = next(row for row in rows_of(run, "event") if row["event"] == "rollback")
    assert (event["step"], event["step_not_finite"], event["batches_left_out"]) == (4, 6, 2)
    assert run.read_manifest()["status"] == "finished"
    assert [row["step"] for row in rows_of(run, "validation")] == [4, 8]


def test_a_run_that_went_back_resumes_exactly(
    train_tiny, resume_tiny, bad_batches, changed_weights, tmp_path
):
    bad_batches({5})
    changed = {"training__on_nonfinite": "rollback", "training__checkpoint_every": 2, "training__keep": 9}
    straight = train_tiny(tmp_path / "straight", **changed)
    killed = train_tiny(tmp_path / "killed", **changed)
    shutil.rmtree(killed.checkpoints / "step-00000008")  # as if it had been killed after step 6
    killed.update_manifest(status="running")
    resume_tiny(killed.path)
    assert changed_weights(straight, killed) == []
    assert find_checkpoint(killed).state().skipped == 2


def test_the_fourth_time_stops(train_tiny, bad_batches, tmp_path):
    bad_batches(set(range(4, 100)))
    with pytest.raises(JepalmError, match=r"not finite.*after 3 rollbacks"):
        train_tiny(tmp_path, training__on_nonfinite="rollback")


def test_a_run_that_failed_is_resumed_with_rollback(train_tiny, resume_tiny, bad_batches, tmp_path):
    bad_batches({5})
    with pytest.raises(JepalmError):
        train_tiny(tmp_path)
    run = (tmp_path / "latest").resolve()
    resume_tiny(run, "training.on_nonfinite=rollback")
    assert find_checkpoint(open_run(run)).step == 8
