"""Bottleneck and noise of the autoencoder: the divergence, what is drawn, every form the same function."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_objective import assert_resuming_is_exact, tiny_batch, tiny_config, tiny_objective
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from jepalm.config import AutoencoderConfig
from jepalm.data.batches import Batch, Batches
from jepalm.data.prepared import open_prepared
from jepalm.evaluation.validation.jepalm import measure
from jepalm.model.latents import Posterior
from jepalm.model.layout import Layout
from jepalm.objective.autoencoder import disturb, divergence, drop_tokens, sample

NOISES = {
    "objective__autoencoder__token_dropout": 0.3,
    "objective__autoencoder__latent_dropout": 0.2,
    "objective__autoencoder__noise": 0.5,
}
SHAPES: dict[str, dict[str, object]] = {
    "four_tokens": {"model__latent__tokens": 4},
    "narrow_gaussians": {
        "model__latent__tokens": 4,
        "model__latent__dim": 6,
        "objective__kl__weight": 0.1,
        "objective__kl__floor": 0.01,
        "objective__generation__weight": 0.5,
    },
    "gaussians_of_one_token": {
        "objective__kl__weight": 0.1,
        "objective__regularizer__kind": "vicreg",
        "objective__targets__normalisation": "instance",
    },
    "everything": {
        **NOISES,
        "model__latent__tokens": 8,
        "objective__kl__weight": 0.1,
        "objective__kl__floor": 0.01,
        "objective__regularizer__kind": "sigreg",
        "objective__embedding__detach_source": False,
        "objective__embedding__detach_target": False,
    },
    "points_with_noise": {**NOISES, "objective__targets__encoder": "ema"},
}


def counted(batch: Batch, tokens: int) -> Batch:
    return replace(batch, n_target_latents=int((-(-batch.target.lengths // tokens)).sum()))


def layout_of(rows: int) -> Layout:
    return Layout.of(torch.tensor([rows - 1, 1]), rows - 1, packed=True)


def test_the_divergence_by_hand():
    # mean 2 and std 1/2: (4 + 1/4 - 1) / 2 + log 2; mean 1 and std 1: 1/2; mean 0.1 and std 1: 0.005
    posterior = Posterior(torch.tensor([[2.0, 1.0, 0.1]]), torch.tensor([[-math.log(2), 0.0, 0.0]]))
    first = 1.625 + math.log(2)
    assert divergence(posterior, 0.0).item() == pytest.approx(first + 0.5 + 0.005)
    assert divergence(posterior, 0.5).item() == pytest.approx(first + 0.5 + 0.5)
    assert divergence(posterior, 3.0).item() == pytest.approx(9)


def test_the_divergence_is_that_of_the_library():
    generator = torch.Generator().manual_seed(0)
    mean, log_std = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)
    expected = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(divergence(Posterior(mean, log_std), 0.0), expected)


def test_a_dimension_under_the_floor_is_left_alone():
    mean = torch.tensor([[0.1, 3.0]], requires_grad=True)
    divergence(Posterior(mean, torch.zeros(1, 2)), 0.5).sum().backward()
    assert mean.grad is not None
    assert mean.grad.tolist() == [[0.0, 3.0]]


def test_draws_have_the_posteriors_mean_and_deviation():
    torch.manual_seed(0)
    n = 20_000
    posterior = Posterior(torch.full((n, 2), 3.0), torch.tensor([0.5, 2.0]).log().expand(n, 2))
    found = sample(posterior, layout_of(n))
    torch.testing.assert_close(found.mean(0), torch.full((2,), 3.0), atol=0.05, rtol=0)
    torch.testing.assert_close(found.std(0), torch.tensor([0.5, 2.0]), rtol=0.02, atol=0)


def test_a_draw_teaches_mean_and_deviation():
    mean, log_std = torch.zeros(4, 3, requires_grad=True), torch.zeros(4, 3, requires_grad=True)
    torch.manual_seed(0)
    drawn = sample(Posterior(mean, log_std), layout_of(4))
    drawn.sum().backward()
    assert mean.grad is not None
    assert log_std.grad is not None
    assert torch.equal(mean.grad, torch.ones(4, 3))
    torch.testing.assert_close(log_std.grad, drawn.detach())  # d(e^s x) / ds at 0 is x


def test_a_share_of_tokens_is_hidden():
    torch.manual_seed(0)
    ids = torch.full((200, 100), 5)
    found = drop_tokens(ids, 0.15)
    assert set(found.unique().tolist()) == {0, 5}
    assert (found == 0).double().mean().item() == pytest.approx(0.15, abs=0.01)


def test_latent_dropout_keeps_the_mean():
    torch.manual_seed(0)
    found = disturb(torch.ones(200, 100), layout_of(200), AutoencoderConfig(latent_dropout=0.2))
    torch.testing.assert_close(found.unique(), torch.tensor([0.0, 1.25]))
    assert (found == 0).double().mean().item() == pytest.approx(0.2, abs=0.01)


def test_noise_has_its_deviation_and_is_dropped_with_what_it_lies_on():
    torch.manual_seed(0)
    found = disturb(torch.ones(200, 100), layout_of(200), AutoencoderConfig(noise=0.3))
    assert (found.mean().item(), found.std().item()) == pytest.approx((1, 0.3), abs=0.01)
    both = AutoencoderConfig(noise=0.3, latent_dropout=0.5)
    found = disturb(torch.ones(200, 100), layout_of(200), both)
    assert (found == 0).double().mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("name", NOISES)
def test_each_noise_is_in_what_the_decoder_reads_and_in_nothing_else(
    random_objective: Any, make_batch: Any, name: str
):
    batch = make_batch()
    plain = random_objective().encode_and_predict(batch)
    torch.manual_seed(0)
    noisy = random_objective(**{name: NOISES[name]}).encode_and_predict(batch)
    assert not torch.allclose(noisy.decodable, plain.decodable)
    for part in ("source", "target", "encoded", "predicted", "lengths"):
        torch.testing.assert_close(getattr(noisy, part), getattr(plain, part))


@pytest.mark.parametrize("shape", SHAPES)
def test_without_training_nothing_is_drawn(random_objective: Any, make_batch: Any, shape: str):
    objective, batch = random_objective(**SHAPES[shape]).eval(), make_batch()
    state = torch.get_rng_state()
    views = objective.encode_and_predict(batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert views.decodable is views.encoded


def test_noise_is_a_function_of_the_generator(random_objective: Any, make_batch: Any):
    objective, batch, found = random_objective(**NOISES), make_batch(), []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        found.append(objective(batch).terms["reconstruction"].item())
    assert found[0] == found[2] != found[1]


def test_hidden_tokens_still_teach_the_encoder_in_bf16(random_objective: Any, make_batch: Any):
    """The cast weights that autocast keeps must not be those of the pass without a graph."""
    found = []
    for half in (False, True):
        objective = random_objective(packing=True, **NOISES)
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            term = objective(make_batch()).terms["reconstruction"]
        term.backward()
        found.append(objective.model.encoder.blocks[0].ffn.up.weight.grad.flatten())
    assert torch.nn.functional.cosine_similarity(*found, dim=0) > 0.98


def terms_and_gradients(objective: Any, batch: Batch) -> dict[str, Tensor]:
    torch.manual_seed(3)
    losses = objective(counted(batch, objective.model.config.latent.tokens))
    losses.total.backward()
    gradients = {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
    return {"total": losses.total.detach(), **losses.terms, **gradients}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("packing", "attention"), [(True, "auto"), (True, "sdpa"), (False, "sdpa")])
def test_terms_and_all_gradients_equal_the_padded_matmul_form(
    random_objective: Any, make_batch: Any, packing: bool, attention: str, shape: str
):
    plain = random_objective(attention="matmul", **SHAPES[shape]).double()
    other = random_objective(packing=packing, attention=attention, **SHAPES[shape]).double()
    expected, found = (terms_and_gradients(each, make_batch()) for each in (plain, other))
    learned = {name for name, p in plain.named_parameters() if p.requires_grad}
    assert learned <= expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.allclose(value, found[name], rtol=1e-10, atol=1e-10), name


@pytest.mark.parametrize("shape", SHAPES)
def test_term_names_are_those_that_forward_gives_in_its_order(
    random_objective: Any, make_batch: Any, shape: str
):
    objective = random_objective(**SHAPES[shape])
    batch = counted(make_batch(), objective.model.config.latent.tokens)
    assert list(objective(batch).terms) == objective.term_names


def test_predicting_zero_costs_the_width_of_a_latent(random_objective: Any, make_batch: Any):
    objective = random_objective(model__latent__tokens=4, model__latent__dim=6)
    torch.nn.init.zeros_(objective.model.predictor.project.weight)
    assert objective(counted(make_batch(), 4)).terms["embedding"].item() == pytest.approx(6, rel=1e-3)


def test_the_kl_term_is_the_mean_over_latents(random_objective: Any, make_batch: Any):
    settings: dict[str, Any] = {"model__latent__tokens": 4, "objective__kl__weight": 1}
    objective, batch, found = random_objective(**settings, objective__kl__floor=0.02), make_batch(), []
    for row, length in enumerate(batch.target.lengths.tolist()):
        layout = Layout.of(torch.tensor([length]), length, packed=True)
        posterior = objective.model.encoder.posterior(batch.target.ids[row : row + 1, :length], layout)
        library = kl_divergence(Normal(posterior.mean, posterior.log_std.exp()), Normal(0.0, 1.0))
        found += library.clamp(min=0.02).sum(-1).flatten().tolist()
    assert len(found) == 8
    assert objective(counted(batch, 4)).terms["kl"].item() == pytest.approx(sum(found) / 8, rel=1e-5)


@pytest.mark.parametrize("weighting", ["uncertainty", "ema"])
def test_it_keeps_its_configured_weight_under_every_weighting(weighting: str):
    objective = tiny_objective({"weighting": weighting, "kl": {"weight": 0.3}})
    assert objective(tiny_batch()).weights["kl"] == 0.3
    assert "kl" not in objective.weighting.balanced


def test_micro_batches_add_up_to_the_batch(random_objective: Any, data_root: Path):
    split = open_prepared("lines", data_root).split("train")
    settings: dict[str, Any] = {"model__latent__tokens": 4, "objective__kl__weight": 1}

    def terms(micro: int) -> dict[str, float]:
        objective = random_objective(packing=True, **settings).double().eval()
        objective.model.encoder.tokens = torch.nn.Embedding(40, 16, dtype=torch.float64)
        generator = torch.Generator().manual_seed(5)
        torch.nn.init.normal_(objective.model.encoder.tokens.weight, generator=generator)
        sizes: dict[str, Any] = {"source_len": 12, "target_len": 12, "tokens_per_latent": 4}
        batches = Batches(split, batch_size=8, micro_batch_size=micro, seed=0, device="cpu", **sizes)
        views = [(batch, objective.encode_and_predict(batch)) for batch in batches.at(3)]
        total = {"embedding": 0.0, "kl": 0.0}
        for batch, view in views:
            places = view.embedding_layout
            errors = {
                "embedding": (view.predicted - view.target).square().sum(-1),
                "kl": divergence(view.posterior, 0.5),
            }
            for name, value in errors.items():
                total[name] += float(places.total(value).detach()) / batch.n_target_latents
        return total

    assert terms(8) == pytest.approx(terms(2), rel=1e-9)


def test_the_averaged_encoder_has_the_bottleneck(random_objective: Any, make_batch: Any):
    objective = random_objective(model__latent__tokens=4, objective__targets__encoder="ema")
    head, own = objective.model.encoder.latents.squeeze, objective.target_encoder.encoder.latents.squeeze
    before = own.weight.clone()
    objective.config = objective.config.model_copy(
        update={"targets": objective.config.targets.model_copy(update={"ema_start": 0.75})}
    )
    objective.after_step(1, 10)
    torch.testing.assert_close(own.weight, before + 0.25 * (head.weight - before))
    views = objective.encode_and_predict(make_batch())
    assert views.target.shape == views.predicted.shape == (4, 3, 16)


def test_regularizers_see_latents_without_noise(random_objective: Any, make_batch: Any):
    settings = {"objective__regularizer__kind": "vicreg", "model__latent__tokens": 4}
    objective, batch = random_objective(packing=True, **settings, **NOISES), counted(make_batch(), 4)
    rows = objective.eval().encode_and_predict(batch).target
    assert rows.shape == (8, 16)
    expected = objective.regularizer(rows, layout_of(8)).item()
    assert objective.train()(batch).terms["regularizer"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("packing", [True, False])
def test_the_held_out_loss_is_the_objectives_without_noise(
    random_objective: Any, make_batch: Any, shape: str, packing: bool
):
    objective = random_objective(packing=packing, **SHAPES[shape]).eval()
    batch = counted(make_batch(), objective.model.config.latent.tokens)
    with torch.no_grad():
        found, losses = measure(objective, [batch]), objective(batch)
    assert found["validation/loss"] == pytest.approx(losses.total.item(), rel=1e-4)
    if "kl" in losses.terms:
        assert found["validation/kl"] == pytest.approx(losses.terms["kl"].item(), rel=1e-5)


def test_resuming_with_noise_is_exact(tmp_path: Path):
    noise: Mapping[str, Any] = {"token_dropout": 0.2, "latent_dropout": 0.2, "noise": 0.3}
    config = tiny_config({"autoencoder": noise, "kl": {"weight": 0.01}})
    assert_resuming_is_exact(tmp_path / "run", config)
