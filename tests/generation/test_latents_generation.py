"""One-shot generation of a model with several tokens a latent."""

from pathlib import Path
from typing import Any

import pytest
import torch

from jepalm.generation.loading import load_trained
from jepalm.generation.one_pass import generate

NOISY: dict[str, Any] = {
    "model__latent__tokens": 4,
    "model__latent__dim": 6,
    "objective__autoencoder__token_dropout": 0.2,
    "objective__autoencoder__latent_dropout": 0.2,
    "objective__autoencoder__noise": 0.1,
    "objective__kl__weight": 0.001,
    "objective__targets__encoder": "ema",
    "training__micro_batch_size": 2,
}
FORMS = pytest.mark.parametrize("packing", [True, False])


@FORMS
@pytest.mark.parametrize(("length", "latents"), [(1, 1), (7, 2), (8, 2), (12, 3)])
def test_a_passage_has_the_length_and_the_latents_it_takes(
    random_objective: Any, make_batch: Any, packing: bool, length: int, latents: int
):
    objective = random_objective(packing=packing, model__latent__tokens=4, model__latent__dim=6).eval()
    passage = generate(objective, make_batch().source, length=length)
    assert [len(row) for row in passage.rows()] == [length] * 4
    assert passage.embeddings.shape == (4, latents, 6)
    assert passage.tokens_per_embedding == 4


@FORMS
def test_of_several_lengths_the_kept_passage_is_that_of_its_length(
    random_objective: Any, make_batch: Any, packing: bool
):
    objective = random_objective(
        packing=packing, model__latent__tokens=4, objective__length__kind="classification"
    ).eval()
    batch = make_batch()
    passage = generate(objective, batch.source, length_candidates=12)
    for row, length in enumerate(passage.lengths.tolist()):
        alone = generate(objective, batch.source, length=length)
        assert passage.rows()[row] == alone.rows()[row]
        shown = -(-length // 4)
        torch.testing.assert_close(passage.embeddings[row, :shown], alone.embeddings[row, :shown])
        assert not passage.embeddings[row, shown:].any()


def test_a_noisy_run_with_latents_resumes_to_the_same_weights_and_generates(
    tmp_path: Path, train_tiny: Any, resume_tiny: Any, continue_text: Any, changed_weights: Any
):
    straight = train_tiny(tmp_path / "straight", **NOISY, training__keep=5)
    resumed = train_tiny(tmp_path / "resumed", **NOISY, training__keep=5)
    (resumed.checkpoints / "step-00000008" / "files.json").unlink()
    resume_tiny(resumed.path)
    assert changed_weights(resumed, straight) == []
    trained = load_trained(resumed)
    made = continue_text(trained, "1 abc", length=7, passages=2)
    assert made.passages[1].embeddings.shape == (1, 2, 6)
