"""Figures of a model with several tokens a latent, against loops over single texts in float64."""

from typing import Any

import numpy as np
import pytest
import torch

from jepalm.data.batches import Batch, pad_rows
from jepalm.evaluation.text.embeddings import measure_embeddings, pair_sums
from jepalm.evaluation.validation.jepalm import measure
from jepalm.hardware import Hardware
from jepalm.model.layout import Layout

CPU = Hardware(torch.device("cpu"), "fp32", 1, False, "auto", False, "cpu")
SETTINGS: dict[str, Any] = {
    "model__latent__tokens": 4,
    "model__latent__dim": 6,
    "objective__kl__weight": 1,
    "objective__kl__floor": 0.001,
}
FORMS = pytest.mark.parametrize("packing", [True, False])


@pytest.fixture
def batches(make_batch: Any) -> list[Batch]:
    return [make_batch(), make_batch((3, 9), (6, 5), seed=2)]


def one_by_one(objective: Any, batches: list[Batch]) -> dict[str, list[Any]]:
    """Rows of target, predicted and copied latents, and the divergence of each."""
    rows: dict[str, list[Any]] = {"target": [], "predicted": [], "copied": [], "kl": []}
    encoder = objective.model.encoder
    for batch in batches:
        for row in range(len(batch.target.lengths)):
            n, m = int(batch.source.lengths[row]), int(batch.target.lengths[row])
            source_layout = Layout.of(torch.tensor([n]), n, packed=False, ends_at_zero=True)
            layout = Layout.of(torch.tensor([m]), m, packed=False)
            source = encoder(batch.source.ids[row : row + 1, :n], source_layout)
            target = encoder.posterior(batch.target.ids[row : row + 1, :m], layout)
            copied = encoder.squeeze(source, source_layout).mean[0]
            predicted = objective.model.predictor(layout.latents(4), source, source_layout).embeddings[0]
            variance = (2 * target.log_std[0]).exp()
            nats = 0.5 * (target.mean[0] ** 2 + variance - 1 - variance.log())
            for place in range(-(-m // 4)):
                rows["target"].append(target.mean[0, place])
                rows["predicted"].append(predicted[place])
                rows["copied"].append(copied[place] if place < len(copied) else copied.mean(0))
                rows["kl"].append(sum(max(0.001, float(value)) for value in nats[place]))
    return rows


@FORMS
def test_held_out_figures_are_means_over_latents(random_objective: Any, batches: list[Batch], packing: bool):
    objective = random_objective(packing=packing, **SETTINGS).eval()
    with torch.no_grad():
        found, rows = measure(objective, batches), one_by_one(objective, batches)
    n = 8 + 4
    assert len(rows["target"]) == n
    target, predicted, copied = (
        torch.stack(rows[name]).double() for name in ("target", "predicted", "copied")
    )
    error, around = (predicted - target).square().sum(), (target - target.mean(0)).square().sum()
    expected = {
        "embedding": error / n,
        "embedding_mean": around / n,
        "embedding_copy": (copied - target).square().sum() / n,
        "r2": 1 - error / around,
        "embedding_std": target.std(0, correction=0).mean(),
        "kl": sum(rows["kl"]) / n,
    }
    for name, value in expected.items():
        assert found[f"validation/{name}"] == pytest.approx(float(value), rel=1e-4), name


@FORMS
def test_sums_of_pairs_are_those_of_the_held_out_figures(
    random_objective: Any, batches: list[Batch], packing: bool
):
    objective = random_objective(packing=packing, **SETTINGS).eval()
    others = [pad_rows([[3, 4, 5]] * len(batch.target.lengths), CPU.device) for batch in batches]
    with torch.no_grad():
        whole = measure(objective, batches)
        sums = pair_sums(objective, batches, others)
    assert sums.embeddings.tolist() == [3, 1, 1, 3, 2, 2]
    assert sums.tokens.tolist() == [9, 2, 4, 12, 6, 5]
    n = sums.embeddings.sum()
    assert sums.error.sum() / n == pytest.approx(whole["validation/embedding"], rel=1e-5)
    assert sums.around_mean.sum() / n == pytest.approx(whole["validation/embedding_mean"], rel=1e-4)
    assert sums.reconstruction_ce.sum() / 38 == pytest.approx(whole["validation/reconstruction_ce"], rel=1e-5)
    assert sums.source.shape == sums.target.shape == sums.predicted.shape == (6, 6)


def test_a_decoder_that_reads_one_dimension_tolerates_noise_up_to_its_margin(
    random_objective: Any, monkeypatch: pytest.MonkeyPatch
):
    """Latents are 1 at dimension 0 and 0 elsewhere, and the decoder is right while its sum is above 0."""
    objective = random_objective(packing=True, **SETTINGS).eval()
    encoder = objective.model.encoder
    posterior = encoder.squeeze

    def ones(embeddings: torch.Tensor, layout: Layout) -> Any:
        found = posterior(embeddings, layout)
        mean = torch.zeros_like(found.mean)
        mean[:, 0] = 1
        return type(found)(mean, found.log_std)

    def decoder(latents: torch.Tensor, layout: Layout) -> torch.Tensor:
        places = layout.latents(4)
        each = places.pad(latents)[..., :1].repeat_interleave(4, 1)[:, : layout.mask.shape[1]]  # (B, T, 1)
        logits = torch.zeros(*each.shape[:2], 11)
        logits[..., 5], logits[..., 6] = each[..., 0], -each[..., 0]
        return layout.pack(logits)

    monkeypatch.setattr(encoder, "squeeze", ones)
    monkeypatch.setattr(objective.model.decoder, "forward", decoder)
    pairs = [([3, 4], [5] * 12)] * 200
    rows = measure_embeddings(
        objective, pairs, np.roll(np.arange(200), 1), CPU, seed=0, ce_controls={}, accuracy_controls={}
    )
    found = {row.name: row.values["model"] for row in rows}
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([torch.randn(n, 3, 6, generator=generator)[..., 0].flatten() for n in (64, 64, 64, 8)])
    seventh = drawn.sort().values[6]  # of 600 latents 6 may fall under 0: one in a hundred
    assert found["embedding/tolerance"] == pytest.approx(-1 / float(seventh), rel=0.01)
    assert found["decoder/reconstruction_accuracy"] == 1
