import math
from typing import Any

import pytest
import torch
from torch import Tensor

from jepalm.model.encoder import TextEncoder
from jepalm.model.latents import one_below_the_other, side_by_side
from jepalm.model.layout import Layout

LENGTHS = (9, 2, 4, 12)
FORMS = pytest.mark.parametrize("packing", [True, False])


def laid_out(*lengths: int, packing: bool = False) -> Layout:
    return Layout.of(torch.tensor(lengths), max(lengths), packed=packing)


def padded_rows(*rows: list[float]) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [-7.0] * (width - len(row)) for row in rows])[..., None]  # (B, T, 1)


def test_latents_of_four_tokens_are_as_many_as_it_takes():
    latents = laid_out(*LENGTHS, packing=True).latents(4)
    assert latents.mask.tolist() == [[True] * n + [False] * (3 - n) for n in (3, 1, 1, 3)]
    assert latents.positions[0].tolist() == [0, 1, 2]
    assert latents.index is not None
    assert latents.index.tolist() == [0, 1, 2, 3, 6, 9, 10, 11]


def test_latents_of_one_token_are_the_positions_themselves():
    layout = laid_out(*LENGTHS)
    assert layout.latents(1) is layout


@FORMS
def test_tokens_stand_side_by_side_with_zeros_behind_the_last(packing: bool):
    layout = laid_out(5, 2, packing=packing)
    x = layout.pack(padded_rows([1, 2, 3, 4, 5], [6, 7]))
    latents = layout.latents(2)
    found = latents.pad(side_by_side(x, layout, 2)) * latents.mask[..., None]
    assert found.tolist() == [[[1, 2], [3, 4], [5, 0]], [[6, 7], [0, 0], [0, 0]]]


@FORMS
@pytest.mark.parametrize("tokens", [1, 2, 4, 8])
def test_spreading_gives_back_what_was_put_side_by_side(packing: bool, tokens: int):
    layout = laid_out(*LENGTHS, packing=packing)
    x = layout.pack(torch.randn(4, 12, 3, generator=torch.Generator().manual_seed(0)))
    found = one_below_the_other(side_by_side(x, layout, tokens), layout, tokens)
    mask = layout.mask[..., None]
    assert torch.equal(layout.pad(found) * mask, layout.pad(x) * mask)


@FORMS
@pytest.mark.parametrize(("tokens", "latents"), [(1, 27), (2, 14), (4, 8), (8, 6)])
def test_encoder_predictor_and_decoder_agree_on_the_latents(
    random_objective: Any, make_batch: Any, packing: bool, tokens: int, latents: int
):
    objective = random_objective(packing=packing, model__latent__tokens=tokens, model__latent__dim=6)
    views = objective.encode_and_predict(make_batch(targets=LENGTHS))
    assert int(views.embedding_layout.mask.sum()) == latents
    assert objective.model.predictor.queries.shape[0] == -(-12 // tokens)
    shape = (latents, 6) if packing else (4, -(-12 // tokens), 6)
    assert views.target.shape == views.predicted.shape == shape
    logits = objective.model.decoder(views.predicted, views.target_layout)
    assert logits.shape == ((27, 11) if packing else (4, 12, 11))


def test_latents_that_are_points_have_mean_0_and_variance_1(random_objective: Any, make_batch: Any):
    views = random_objective(packing=True, model__latent__tokens=4).encode_and_predict(make_batch())
    assert views.posterior.log_std is None
    torch.testing.assert_close(views.target.mean(-1), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(views.target.var(-1, correction=0), torch.ones(8), atol=1e-3, rtol=0)


def test_gaussian_latents_have_a_scale_of_their_own(random_objective: Any, make_batch: Any):
    objective = random_objective(packing=True, objective__kl__weight=1, model__latent__dim=6)
    before = objective.encode_and_predict(make_batch()).posterior
    with torch.no_grad():
        objective.model.encoder.latents.moments.weight[:6] *= 3
        objective.model.encoder.latents.moments.bias[:6] *= 3
    after = objective.encode_and_predict(make_batch()).posterior
    torch.testing.assert_close(after.mean, 3 * before.mean)
    assert torch.equal(after.log_std, before.log_std)


def test_without_a_bottleneck_the_target_embeddings_are_the_encoders(random_objective: Any, make_batch: Any):
    objective, batch = random_objective(), make_batch()
    views = objective.encode_and_predict(batch)
    assert objective.model.encoder.latents is None
    assert objective.model.decoder.latents is None
    assert torch.equal(views.target, objective.model.encoder(batch.target.ids, views.target_layout))
    assert views.decodable is views.encoded


@pytest.mark.parametrize(("n_layers", "conditioning"), [(0, False), (1, True)])
def test_without_layers_an_embedding_knows_nothing_of_its_neighbours(
    random_objective: Any, make_batch: Any, n_layers: int, conditioning: bool
):
    objective = random_objective(model__encoder__n_layers=n_layers)
    ids, layout = make_batch().target.ids, laid_out(*LENGTHS)
    changed = ids.clone()
    changed[0, 1] = 3 + (ids[0, 1] - 2) % 8
    assert changed[0, 1] != ids[0, 1]
    one, other = (objective.model.encoder(each, layout)[0, 0] for each in (ids, changed))
    assert torch.equal(one, other) != conditioning


def test_gaussian_latents_begin_far_apart_beside_their_deviation(tiny_config: Any, make_batch: Any):
    torch.manual_seed(0)
    config = tiny_config(model__dim=64, model__latent__tokens=2, model__latent__dim=32).model
    encoder = TextEncoder(config, 11, variational=True)
    posterior = encoder.posterior(make_batch().target.ids, laid_out(*LENGTHS, packing=True))
    assert posterior.log_std is not None
    assert posterior.mean.std().item() == pytest.approx(1, rel=0.2)
    assert posterior.log_std.exp().mean().item() == pytest.approx(math.exp(-1), rel=0.1)
