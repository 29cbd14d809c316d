"""The energy score as the embedding term, and the predictor's noise."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_objective import (
    MODEL,
    VOCABULARY,
    assert_resuming_is_exact,
    split,
    terms_and_gradients,
    tiny_batch,
    tiny_config,
)

from jepalm.config import ModelConfig, ObjectiveConfig, from_mapping
from jepalm.data.batches import Batch
from jepalm.errors import UsageError
from jepalm.evaluation.validation.jepalm import measure
from jepalm.model.conditioning import Conditioning
from jepalm.model.noise import GaussianNoise, draw_gaussian
from jepalm.objective.jepalm import JepalmObjective

NOISY: dict[str, Any] = {"n_layers": 1, "noise": "gaussian", "noise_dim": 6}
ENERGY: dict[str, Any] = {"distance": "energy", "samples": 3, "windows": [1, 2, "all"]}


def built(
    *,
    predictor: dict[str, Any] = NOISY,
    model: dict[str, Any] | None = None,
    objective: dict[str, Any] | None = None,
    embedding: dict[str, Any] = ENERGY,
    packing: bool = False,
) -> JepalmObjective:
    torch.manual_seed(0)
    sizes = ModelConfig.model_validate({**MODEL, "predictor": predictor, **(model or {})})
    settings = {"length": {"kind": "none"}, "embedding": embedding, **(objective or {})}
    found = JepalmObjective(sizes, ObjectiveConfig.model_validate(settings), VOCABULARY, packing=packing)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return found


def with_latents(batch: Batch, tokens: int) -> Batch:
    latents = int((-(-batch.target.lengths // tokens)).sum())
    return Batch(
        batch.source, batch.target, None, batch.n_pairs, batch.n_target_tokens, n_target_latents=latents
    )


FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "variational": {
        "model": {"latent": {"tokens": 3, "dim": 8}},
        "objective": {"kl": {"weight": 0.01}, "autoencoder": {"token_dropout": 0.3}},
        "embedding": {**ENERGY, "target_samples": 2},
    },
    "averaged targets": {
        "objective": {"kl": {"weight": 0.01}, "targets": {"encoder": "ema"}},
        "embedding": {**ENERGY, "target_samples": 2},
    },
    "unmasked": {"predictor": {**NOISY, "unmasked": True}},
    "into the source": {"embedding": {**ENERGY, "detach_source": False, "detach_target": False}},
}


@pytest.mark.parametrize("form", FORMS)
def test_packed_is_padded_in_terms_and_gradients(form: str) -> None:
    batch = with_latents(tiny_batch(), 3) if form == "variational" else tiny_batch()
    (terms, gradients), (others, theirs) = (
        terms_and_gradients(built(**FORMS[form], packing=packing).double(), batch)
        for packing in (False, True)
    )
    assert terms.keys() == others.keys()
    for name, value in {**terms, **gradients}.items():
        assert torch.allclose({**others, **theirs}[name], value, rtol=1e-5, atol=1e-7), name


def test_the_term_is_the_mean_of_the_texts_scores_by_their_embeddings() -> None:
    objective, batch = built(), tiny_batch()
    torch.manual_seed(0)
    term = objective(batch).terms["embedding"].item()
    torch.manual_seed(0)
    views = objective.encode_and_predict(batch)
    lengths = batch.target.lengths
    scores = objective.energy(views).total
    assert term == pytest.approx(((scores * lengths).sum() / lengths.sum()).item(), rel=1e-6)


def test_the_samples_are_the_predictors_own_one_by_one() -> None:
    objective, batch = built(), tiny_batch()
    torch.manual_seed(0)
    samples = objective.encode_and_predict(batch, ["embedding"]).samples
    assert samples is not None
    source, layout = objective.encode_source(batch.source)
    target = objective.layout(batch.target)
    torch.manual_seed(0)
    noise = draw_gaussian(target.copies(3), 6)
    for number in range(3):
        rows = slice(number * 8, number * 8 + 8)
        own = GaussianNoise(noise.places[rows], noise.text[rows])
        alone = objective.predict(source, layout, target, Conditioning(noise=own))
        assert torch.allclose(samples[number][target.mask], alone[target.mask], atol=1e-5)


def test_micro_batches_add_up_to_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = torch.randn(3, 10, 6, generator=torch.Generator().manual_seed(4))

    def same(layout: Any, *_: object) -> GaussianNoise:
        each, width = len(layout.mask) // 3, layout.mask.shape[1]
        return GaussianNoise(
            pattern[:, :width].repeat_interleave(each, 0), pattern[:, 0].repeat_interleave(each, 0)
        )

    monkeypatch.setattr("jepalm.objective.jepalm_predictions.draw_gaussian", same)
    objective, batch = built(), tiny_batch()
    whole = objective(batch).terms["embedding"].item()
    parts = [objective(part).terms["embedding"].item() for part in split(batch, 3, 5)]
    assert sum(parts) == pytest.approx(whole, rel=1e-5)


def test_the_encoder_reads_the_source_once(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, batch = built(), tiny_batch()
    rows: list[int] = []
    encode = objective.model.encoder.forward
    monkeypatch.setattr(
        objective.model.encoder,
        "forward",
        lambda ids, layout: (rows.append(len(ids)), encode(ids, layout))[1],
    )
    objective(batch)
    assert rows == [8, 8]  # targets and sources


def test_the_noise_of_the_whole_text_reaches_every_position() -> None:
    objective, batch = built().eval(), tiny_batch()
    source, layout = objective.encode_source(batch.source)
    target = objective.layout(batch.target)
    none = GaussianNoise(torch.zeros(8, 10, 6), torch.zeros(8, 6))
    shared = GaussianNoise(none.places, torch.ones(8, 6))
    plain = objective.predict(source, layout, target)
    assert torch.equal(objective.predict(source, layout, target, Conditioning(noise=none)), plain)
    changed = (objective.predict(source, layout, target, Conditioning(noise=shared)) - plain).abs().amax(-1)
    assert bool((changed[target.mask] > 1e-4).all())


def test_what_is_drawn_is_a_function_of_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODEL, "predictor", NOISY)
    settings = {
        "length": {"kind": "none"},
        "kl": {"weight": 0.01},
        "embedding": {**ENERGY, "target_samples": 2},
    }
    assert_resuming_is_exact(tmp_path, tiny_config(settings))


def test_evaluation_predicts_without_noise_and_draws_the_same_samples_every_time() -> None:
    objective, batch = built(objective={"kl": {"weight": 0.01}}).eval(), tiny_batch()
    with torch.no_grad():
        torch.manual_seed(5)
        before = torch.get_rng_state()
        one = objective.encode_and_predict(batch)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(6)
        other = objective.encode_and_predict(batch)
        source, layout = objective.encode_source(batch.source)
        plain = objective.predict(source, layout, objective.layout(batch.target))
    assert one.samples is not None
    assert torch.equal(one.samples, other.samples)
    assert torch.equal(one.draws, other.draws)
    assert torch.equal(one.predicted, plain)
    assert not torch.allclose(one.samples[0], one.samples[1])


def test_validation_gives_the_score_and_the_distance_between_samples() -> None:
    objective, batches = built().eval(), [tiny_batch(), tiny_batch(1, 4)]
    with torch.no_grad():
        found = measure(objective, batches)
        views = [objective.encode_and_predict(batch) for batch in batches]
    lengths = torch.cat([batch.target.lengths for batch in batches])
    scores = [objective.energy(view) for view in views]
    for name, part in (("embedding_distance", "total"), ("sample_distance", "between")):
        each = torch.cat([getattr(score, part) for score in scores])
        expected = float((each * lengths).sum() / lengths.sum())
        assert found[f"validation/{name}"] == pytest.approx(expected, rel=1e-5)
    assert found["validation/loss"] == pytest.approx(
        found["validation/reconstruction_ce"] + found["validation/embedding_distance"], rel=1e-5
    )


def test_a_predictor_without_noise_has_the_weights_it_always_had() -> None:
    plain = built(predictor={"n_layers": 1}, embedding={})
    extra = built().state_dict().keys() - plain.state_dict().keys()
    assert extra == {"model.predictor.noise.places.weight", "model.predictor.noise.text.weight"}


@pytest.mark.parametrize("source_positions", ["before", "aligned"])
@pytest.mark.parametrize("packing", [True, False])
def test_copies_of_a_text_are_predicted_from_its_own_source_and_action(
    source_positions: str, packing: bool
) -> None:
    sizes = {"source_positions": source_positions, "action": {"conditioning": "both"}}
    objective, batch = built(model=sizes, packing=packing).eval(), tiny_batch()
    action = objective.encode_action(tiny_batch(7).source)
    source, layout = objective.encode_source(batch.source)
    target = objective.layout(batch.target)
    once = objective.predict(source, layout, target, Conditioning(action))
    twice = objective.predict(source, layout, target.copies(2), Conditioning(action))
    for half in twice.unflatten(0, (2, -1)):
        assert torch.allclose(target.pad(half)[target.mask], target.pad(once)[target.mask], atol=1e-6)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"objective": {"embedding": {"distance": "energy"}}}, "needs model.predictor.noise=gaussian"),
        ({"objective": {"embedding": {"distance": "energy", "windows": []}}}, "at least 1 item"),
        ({"objective": {"embedding": {"distance": "energy", "exponent": 2}}}, "less than 2"),
        ({"objective": {"embedding": {"distance": "energy", "windows": [0]}}}, "greater than or equal to 1"),
        (
            {"objective": {"embedding": {"distance": "energy", "target_samples": 2}}},
            "needs objective.kl.weight above 0",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_mapping(tree)
