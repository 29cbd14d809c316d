"""Training ends early when the held-out loss does not fall any more."""

import json
from pathlib import Path
from typing import Any

from tiny_objective import tiny_config, tiny_trainer

from jepalm.training.checkpoint import find_checkpoint
from jepalm.training.trainer import HeldOutResult, Trainer

EVERY_STEP = {"steps": 6, "log_every": 1, "validate_every": 1, "checkpoint_every": 1}


def trainer_of(folder: Path, losses: list[float], **training: Any) -> Trainer:
    """A trainer whose held-out losses after each step are given."""
    trainer = tiny_trainer(folder, tiny_config(**{**EVERY_STEP, **training}))

    def validate(objective: object) -> HeldOutResult:
        names = ("r2", "generation_ce", "reconstruction_ce", "effective_rank")
        values = {f"validation/{name}": 1.0 for name in names}
        return HeldOutResult({**values, "validation/loss": losses[trainer.state.step - 1]}, [])

    trainer.validate = validate
    return trainer


def manifest(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "manifest.json").read_text()))


def test_training_ends_after_so_many_validations_without_a_lower_loss(tmp_path: Path):
    trainer_of(tmp_path, [3.0, 2.0, 2.5, 1.9, 1.9, 2.0], patience=2).train()
    found = manifest(tmp_path)
    assert (found["status"], found["finished_early"], found["step"]) == ("finished", True, 6)
    assert found["best"]["step"] == 4


def test_the_best_checkpoint_and_the_last_are_kept(tmp_path: Path):
    trainer = trainer_of(tmp_path, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], patience=3, keep=1)
    trainer.train()
    assert find_checkpoint(trainer.run, "best").step == 1
    assert find_checkpoint(trainer.run, "last").step == 4


def test_a_checkpoint_is_saved_where_training_ends_early_though_none_is_due(tmp_path: Path):
    trainer = trainer_of(tmp_path, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], patience=1, checkpoint_every=6)
    trainer.train()
    assert find_checkpoint(trainer.run).step == 2


def test_resuming_goes_on_counting(tmp_path: Path):
    losses = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    trainer_of(tmp_path, losses, patience=3).train()
    resumed = trainer_of(tmp_path, losses, patience=3)
    resumed.resume(find_checkpoint(resumed.run, "3"))
    resumed.train()
    assert resumed.state.step == 4


def test_only_the_last_phase_ends_early(tmp_path: Path):
    phases = [{"name": "first", "steps": 3}, {"name": "second"}]
    trainer_of(tmp_path, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], patience=1, phases=phases).train()
    found = manifest(tmp_path)
    assert (found["finished_early"], found["step"]) == (True, 5)


def test_without_patience_training_goes_to_the_last_step(tmp_path: Path):
    trainer_of(tmp_path, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).train()
    found = manifest(tmp_path)
    assert (found["step"], "finished_early" in found) == (6, False)
