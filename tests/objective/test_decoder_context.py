"""What an autoregressive decoder is given: the right tokens before each position, and no later ones."""

from typing import Any

import pytest
import torch
from tiny_objective import MODEL, VOCABULARY, tiny_batch

from jepalm.config import ModelConfig, ObjectiveConfig
from jepalm.data.batches import Batch, Tokens, pad_rows
from jepalm.evaluation.validation.jepalm import measure
from jepalm.model.decoder import DecoderContext
from jepalm.objective.context import previous_tokens
from jepalm.objective.jepalm import JepalmObjective

KINDS = ("local", "recurrent")
CPU = torch.device("cpu")


def ending_itself(kind: str = "local", *, packing: bool = False, **terms: Any) -> JepalmObjective:
    """A tiny objective with a light decoder, in evaluation mode; terms not given have weight 0."""
    decoder = {"kind": kind, "context": 3, "dim": 24}
    weights = {name: {"weight": 0.0} for name in ("reconstruction", "embedding", "generation")}
    given = {**weights, "length": {"kind": "none"}, **terms}
    torch.manual_seed(0)
    model = ModelConfig.model_validate({**MODEL, "decoder": decoder})
    built = JepalmObjective(model, ObjectiveConfig.model_validate(given), VOCABULARY, packing=packing)
    torch.nn.init.normal_(built.model.predictor.project.weight, std=0.1)
    return built.eval()


def test_before_a_target_stand_the_last_tokens_of_its_source_and_before_these_padding():
    source, target = pad_rows([[5, 6], [7, 8, 9]], CPU), pad_rows([[10, 11], [12]], CPU)
    assert previous_tokens(source, target, 3).tolist() == [
        [[6, 5, 0], [10, 6, 5]],
        [[9, 8, 7], [12, 9, 8]],
    ]


def test_a_gap_is_read_from_left_to_right_in_the_whole_text():
    """Of 3 4 5 6 7 the tokens at places 1, 2 and 4 are hidden."""
    places = torch.tensor([[1, 2, 4]])
    source = Tokens(torch.tensor([[3, 19, 19, 6, 19]]), torch.tensor([5]), torch.arange(5)[None])
    target = Tokens(torch.tensor([[4, 5, 7]]), torch.tensor([3]), places)
    assert previous_tokens(source, target, 2).tolist() == [[[3, 0], [4, 3], [6, 5]]]


def test_a_decoder_without_context_is_given_no_tokens():
    batch = tiny_batch()
    assert previous_tokens(batch.source, batch.target, 0).shape == (*batch.target.ids.shape, 0)


@pytest.mark.parametrize("packing", [False, True])
def test_the_sources_last_embedding_is_that_of_its_last_position(packing: bool):
    objective, batch = ending_itself(packing=packing), tiny_batch()
    source, layout = objective.encode_source(batch.source)
    last = objective.decoder_context(batch, source, layout).source
    rows = layout.pad(source)
    for row, length in enumerate(batch.source.lengths.tolist()):
        assert torch.equal(last[row], rows[row, length - 1])


@pytest.mark.parametrize("kind", KINDS)
def test_packed_and_padded_cost_the_same(kind: str):
    batch = tiny_batch()
    terms = {"generation": {"weight": 1.0}, "reconstruction": {"weight": 1.0}}
    one = ending_itself(kind, **terms)(batch).terms
    other = ending_itself(kind, packing=True, **terms)(batch).terms
    for name, value in one.items():
        torch.testing.assert_close(value, other[name])


@pytest.mark.parametrize("kind", KINDS)
def test_a_position_knows_nothing_of_its_own_token_and_of_later_ones(kind: str):
    objective, batch = ending_itself(kind), tiny_batch()
    views = objective.encode_and_predict(batch)
    at = 4
    changed = batch.target.ids.clone()
    changed[:, at:] = 1
    other = objective.encode_and_predict(
        Batch(batch.source, Tokens(changed, batch.target.lengths), None, 8, batch.n_target_tokens)
    )
    one, two = (objective.decode(v.predicted, v.target_layout, v.context) for v in (views, other))
    assert torch.equal(one[:, : at + 1], two[:, : at + 1])
    assert not torch.equal(one[:, at + 1], two[:, at + 1])


def test_predicted_embeddings_do_not_tell_how_long_the_target_is():
    objective, batch = ending_itself(), tiny_batch()
    lengths = batch.target.lengths
    cut = Tokens(batch.target.ids[:, :3], lengths.clamp(max=3))
    whole = objective.encode_and_predict(batch).predicted[:, :3]
    short = objective.encode_and_predict(Batch(batch.source, cut, None, 8, int(cut.lengths.sum()))).predicted
    torch.testing.assert_close(whole[cut.mask], short[cut.mask])


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoder_that_is_left_alone_gets_no_gradient_from_predicted_embeddings(kind: str):
    objective = ending_itself(kind, generation={"weight": 1.0, "train_decoder": False})
    objective(tiny_batch()).total.backward()
    assert all(parameter.grad is None for parameter in objective.model.decoder.parameters())
    assert objective.model.predictor.project.weight.grad is not None


def test_terms_of_weight_0_are_not_computed():
    assert set(ending_itself(generation={"weight": 1.0})(tiny_batch()).terms) == {"generation"}


@pytest.mark.parametrize("kind", KINDS)
def test_validation_measures_the_exact_likelihood_and_what_it_owes_to_the_embeddings(kind: str):
    objective, batch = ending_itself(kind, generation={"weight": 1.0}), tiny_batch()
    with torch.no_grad():
        found = measure(objective, [batch])
    nats = float(objective(batch).total.detach())
    assert found["validation/generation_ce"] == pytest.approx(nats, rel=1e-5)
    views = objective.encode_and_predict(batch)
    mean = views.predicted[views.target_layout.mask].mean(0)
    logits = objective.decode(mean.expand_as(views.predicted), views.target_layout, views.context)
    labels = objective.labels(batch.target, views.target_layout)
    without = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    assert found["validation/generation_ce_mean_embedding"] == pytest.approx(float(without), rel=1e-5)
    ranges = [found[f"validation/generation_ce_{name}"] for name in ("1_8", "9_16")]
    counts = [int(batch.target.mask[:, :8].sum()), int(batch.target.mask[:, 8:].sum())]
    mean_of_ranges = sum(a * b for a, b in zip(ranges, counts, strict=True)) / sum(counts)
    assert mean_of_ranges == pytest.approx(nats, rel=1e-5)
    assert "validation/generation_ce_other_source" in found


@pytest.mark.parametrize("kind", KINDS)
def test_a_parallel_decoder_is_given_no_context(kind: str, random_objective: Any, make_batch: Any):
    assert random_objective().encode_and_predict(make_batch()).context is None
    assert isinstance(ending_itself(kind).encode_and_predict(tiny_batch()).context, DecoderContext)


def as_language_models(kind: str, *, packing: bool = False) -> tuple[JepalmObjective, Batch]:
    """A causal encoder and a light decoder that learn the language of the sources, and a batch."""
    model = {**MODEL, "decoder": {"kind": kind, "context": 3, "dim": 24}}
    model["encoder"] = {"n_layers": 1, "kind": "causal"}
    terms = {name: {"weight": 1.0} for name in ("encoder_lm", "decoder_lm")}
    given = {**terms, "reconstruction": {"weight": 0.0}, "embedding": {"weight": 0.0}}
    torch.manual_seed(0)
    config = ObjectiveConfig.model_validate({**given, "length": {"kind": "none"}})
    built = JepalmObjective(ModelConfig.model_validate(model), config, VOCABULARY, packing=packing).eval()
    batch = tiny_batch()
    read = int(batch.source.lengths.sum())
    return built, Batch(batch.source, batch.target, None, 8, batch.n_target_tokens, read)


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_decoder_learns_the_sources_as_a_language_model_without_embeddings(kind: str, packing: bool):
    objective, batch = as_language_models(kind, packing=packing)
    decoder, nats = objective.model.decoder, []
    for row, length in zip(batch.source.ids.tolist(), batch.source.lengths.tolist(), strict=True):
        text = [0, 0, 0, *row[:length]]
        before = torch.tensor([[[text[place + 2 - k] for k in range(3)] for place in range(length)]])
        layout = objective.layout(Tokens(torch.tensor([row[:length]]), torch.tensor([length])))
        context = DecoderContext(before, torch.zeros(1, 16))
        logits = decoder(torch.zeros(1, length, 16), layout, context)[0]
        nats += torch.nn.functional.cross_entropy(logits, torch.tensor(row[:length]), reduction="none")
    assert float(objective(batch).terms["decoder_lm"]) == pytest.approx(
        float(sum(nats) / len(nats)), rel=1e-5
    )


@pytest.mark.parametrize("packing", [False, True])
def test_a_causal_encoder_learns_each_next_token_of_the_sources(packing: bool):
    objective, batch = as_language_models("local", packing=packing)
    encoder, nats = objective.model.encoder, []
    for row, length in zip(batch.source.ids.tolist(), batch.source.lengths.tolist(), strict=True):
        ids = torch.tensor([row[:length]])
        states = encoder(ids, objective.layout(Tokens(ids, torch.tensor([length]))))[0, :-1]
        logits = encoder.causal_encoder.lm.logits(states)
        nats += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
    assert float(objective(batch).terms["encoder_lm"]) == pytest.approx(
        float(sum(nats) / len(nats)), rel=1e-5
    )


def test_as_language_models_they_are_measured_on_held_out_sources():
    objective, batch = as_language_models("recurrent")
    with torch.no_grad():
        found, terms = measure(objective, [batch]), objective(batch).terms
    for name, value in terms.items():
        assert found[f"validation/{name}_ce"] == pytest.approx(float(value), rel=1e-5)
