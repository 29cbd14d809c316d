"""The laboratory's options through session, trainer, checkpoints and generation."""

from pathlib import Path
from typing import Any

import pytest

from jepalm.generation.loading import load_trained
from jepalm.session import new_session

EVERYTHING = {
    "objective__weighting": "ema",
    "objective__length__kind": "classification",
    "objective__targets__encoder": "ema",
    "objective__targets__normalisation": "layernorm",
    "objective__regularizer__kind": "sigreg",
    "objective__generation__weight": 0.5,
    "objective__generation__train_decoder": "false",
    "training__micro_batch_size": 2,
}


def test_a_run_with_everything_on_generates_with_length_candidates(
    tmp_path: Path, train_tiny: Any, continue_text: Any
) -> None:
    trained = load_trained(train_tiny(tmp_path, **EVERYTHING))
    made = continue_text(trained, "1 abc", length_candidates=3)
    assert len(made.passages[0].rows()[0]) == made.passages[0].lengths.item()


def test_a_run_with_everything_on_resumes_to_the_same_weights(
    tmp_path: Path, train_tiny: Any, resume_tiny: Any, changed_weights: Any
) -> None:
    straight = train_tiny(tmp_path / "straight", **EVERYTHING, training__keep=5)
    resumed = train_tiny(tmp_path / "resumed", **EVERYTHING, training__keep=5)
    for folder in resumed.checkpoints.glob("step-00000008"):
        (folder / "files.json").unlink()
    resume_tiny(resumed.path)
    assert changed_weights(resumed, straight) == []


def test_the_manifest_does_not_count_the_averaged_encoder(
    data_root: Path, tiny_config: Any, trained_run: Any, tmp_path: Path
) -> None:
    with new_session(tiny_config(objective__targets__encoder="ema"), data_root) as session:
        run = session.open_folder(tmp_path, None, session.cost())
    assert run.read_manifest()["parameters"] == trained_run.read_manifest()["parameters"]


@pytest.mark.parametrize("kind", ["uncertainty", "ema"])
def test_a_weightings_weights_are_in_the_rows(
    kind: str, tmp_path: Path, train_tiny: Any, rows_of: Any
) -> None:
    rows = rows_of(train_tiny(tmp_path, objective__weighting=kind))
    weights = [row["train/weight/length"] for row in rows]
    assert len(set(weights)) == len(weights)
