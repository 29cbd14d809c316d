"""Hidden spans in the objective: views of one text, positions, the local loss, and where gradients flow."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_objective import terms_and_gradients
from torch import Tensor

from jepalm.data.batches import Batch, Batches, Tokens
from jepalm.data.prepared import open_prepared
from jepalm.model.layout import Layout
from jepalm.objective.spans import picked, whole_text

FORMS = [(True, "auto"), (True, "matmul"), (True, "sdpa"), (False, "auto"), (False, "sdpa")]
LOCAL = {"objective__length__kind": "none", "objective__local__weight": 0.5}
FLOWS: dict[str, dict[str, Any]] = {
    "reference": {"objective__length__kind": "none"},
    "local": LOCAL,
    "into_the_source": {
        **LOCAL,
        "objective__generation__weight": 0.5,
        "objective__embedding__detach_source": False,
    },
    "averaged_and_normalised_targets": {
        **LOCAL,
        "objective__targets__encoder": "ema",
        "objective__targets__normalisation": "instance",
    },
    "variational_and_noisy": {
        **LOCAL,
        "objective__kl__weight": 0.1,
        "objective__autoencoder__token_dropout": 0.3,
        "objective__autoencoder__latent_dropout": 0.2,
        "objective__autoencoder__noise": 0.5,
    },
    "into_source_and_target": {
        **LOCAL,
        "objective__embedding__detach_source": False,
        "objective__embedding__detach_target": False,
        "model__predictor__dim": 8,
        "model__encoder__normalisation": "none",
    },
}
MASK = 10
HIDDEN = [[0, 1, 5, 11], [3], [2, 4], [0, 6, 7]]
LENGTHS = [12, 5, 6, 8]


@pytest.fixture
def batch() -> Batch:
    """Texts of unequal length with unequally many hidden tokens; id 10 is the mask."""
    generator = torch.Generator().manual_seed(1)
    columns = torch.arange(max(LENGTHS)).expand(len(LENGTHS), -1)
    lengths = torch.tensor(LENGTHS)
    ids = torch.randint(3, MASK, columns.shape, generator=generator) * (columns < lengths[:, None])
    sizes = torch.tensor([len(row) for row in HIDDEN])
    places = torch.zeros(len(HIDDEN), int(sizes.max()), dtype=torch.long)
    target, source = places.clone(), ids.clone()
    for row, hidden in enumerate(HIDDEN):
        places[row, : len(hidden)] = torch.tensor(hidden)
        target[row, : len(hidden)] = ids[row, hidden]
        source[row, hidden] = MASK
    return Batch(
        Tokens(source, lengths, columns), Tokens(target, sizes, places), None, len(LENGTHS), int(sizes.sum())
    )


def alone(batch: Batch, row: int) -> tuple[Tensor, Tensor, list[int]]:
    """(1, T) masked text, (1, T) whole text, hidden places of one text, without padding."""
    source = batch.source.ids[row : row + 1, : LENGTHS[row]]
    whole = source.clone()
    whole[0, HIDDEN[row]] = batch.target.ids[row, : len(HIDDEN[row])]
    return source, whole, HIDDEN[row]


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize(("packing", "attention"), FORMS)
def test_terms_and_all_gradients_equal_the_padded_matmul_form(
    random_objective: Any, batch: Batch, packing: bool, attention: str, flow: str
):
    plain = random_objective(attention="matmul", **FLOWS[flow]).double()
    other = random_objective(packing=packing, attention=attention, **FLOWS[flow]).double()
    terms, gradients = terms_and_gradients(plain, batch)
    other_terms, other_gradients = terms_and_gradients(other, batch)
    trained = {name for name, parameter in plain.named_parameters() if parameter.requires_grad}
    assert list(terms)[1:] == plain.term_names
    assert gradients.keys() == other_gradients.keys() == trained
    for name, value in {**terms, **gradients}.items():
        assert torch.allclose(value, {**other_terms, **other_gradients}[name], rtol=1e-10, atol=1e-10), name


def test_the_whole_text_is_put_together_again(batch: Batch):
    whole = whole_text(batch.source, batch.target)
    for row, length in enumerate(LENGTHS):
        assert torch.equal(whole.ids[row, :length], alone(batch, row)[1][0])
        assert not whole.ids[row, length:].any()
    assert MASK not in whole.ids


@pytest.mark.parametrize("packed", [True, False])
def test_rows_are_picked_at_their_places(packed: bool):
    layout = Layout.of(torch.tensor([3, 2]), 3, packed=packed)
    places = Layout.of(torch.tensor([1, 2]), 2, packed=packed, places=torch.tensor([[2, 0], [0, 1]]))
    x = torch.tensor([[[0.0], [1.0], [2.0]], [[10.0], [11.0], [0.0]]])
    found = places.pad(picked(layout.pack(x), layout, places))
    assert found[places.mask].flatten().tolist() == [2.0, 10.0, 11.0]


def test_both_views_count_from_the_start_of_the_text(random_objective: Any, batch: Batch):
    views = random_objective(**LOCAL).encode_and_predict(batch)
    assert views.source_layout.positions[0].tolist() == list(range(12))
    for row, hidden in enumerate(HIDDEN):
        assert views.target_layout.positions[row, : len(hidden)].tolist() == hidden


@torch.no_grad()
def test_views_equal_single_texts_without_padding(random_objective: Any, batch: Batch):
    """The encoder reads the whole text for the target and the masked one for the source, in its places."""
    objective = random_objective(packing=True, **LOCAL).double().eval()
    views = objective.encode_and_predict(batch)
    decodable, predicted = (views.target_layout.pad(x) for x in (views.decodable, views.predicted))
    model = objective.model
    for row in range(len(LENGTHS)):
        source, whole, hidden = alone(batch, row)
        layout = Layout.of(torch.tensor([source.shape[1]]), source.shape[1], packed=False)
        places = Layout.of(
            torch.tensor([len(hidden)]), len(hidden), packed=False, places=torch.tensor([hidden])
        )
        expected = model.encoder(whole, layout)[0, hidden]
        assert torch.allclose(decodable[row, : len(hidden)], expected, atol=1e-10)
        read = model.encoder(source, layout)
        expected = model.predictor(places, read, layout).embeddings[0]
        assert torch.allclose(predicted[row, : len(hidden)], expected, atol=1e-10)


def test_queries_are_those_of_the_hidden_places(random_objective: Any, batch: Batch):
    objective = random_objective(packing=True, **LOCAL)
    objective(batch).terms["embedding"].backward()
    moved = objective.model.predictor.queries.grad.abs().sum(1) > 0
    assert moved.nonzero().flatten().tolist() == sorted({place for row in HIDDEN for place in row})


@torch.no_grad()
def test_the_local_term_is_the_heads_mean_nats_at_the_hidden_places(random_objective: Any, batch: Batch):
    objective = random_objective(**LOCAL).double().eval()
    head, nats = objective.model.local, []
    for row in range(len(LENGTHS)):
        source, whole, hidden = alone(batch, row)
        layout = Layout.of(torch.tensor([source.shape[1]]), source.shape[1], packed=False)
        embeddings = objective.model.encoder(source, layout)[0]
        for place in hidden:
            inner = head.hidden.weight @ embeddings[place] + head.hidden.bias
            logits = head.vocabulary.weight @ (inner / (1 + torch.exp(-inner)))
            probabilities = torch.exp(logits) / torch.exp(logits).sum()
            nats.append(-torch.log(probabilities[whole[0, place]]))
    losses = objective(batch)
    assert float(losses.terms["local"]) == pytest.approx(float(sum(nats)) / 10, rel=1e-10)
    assert losses.weights["local"] == 0.5


def test_a_local_head_that_knows_nothing_costs_the_log_of_the_vocabulary(random_objective: Any, batch: Batch):
    objective = random_objective(**LOCAL)
    objective.model.local.vocabulary.weight.data.zero_()
    assert float(objective(batch).terms["local"].detach()) == pytest.approx(2.3978953, rel=1e-6)  # ln 11


def test_the_local_term_teaches_the_encoder_to_read_the_mask_and_nothing_behind_it(
    random_objective: Any, batch: Batch
):
    objective = random_objective(packing=True, **LOCAL)
    objective(batch).terms["local"].backward()
    taught = {name.split(".")[1] for name, p in objective.named_parameters() if p.grad is not None}
    assert taught == {"encoder", "local"}
    assert objective.model.encoder.tokens.weight.grad[MASK].any()


def test_without_it_the_mask_learns_nothing_in_the_reference_arrangement(random_objective: Any, batch: Batch):
    objective = random_objective(packing=True, **FLOWS["reference"])
    objective(batch).total.backward()
    assert not objective.model.encoder.tokens.weight.grad[MASK].any()


def test_uncertainty_takes_the_local_term_for_a_cross_entropy(random_objective: Any, batch: Batch):
    objective = random_objective(objective__weighting="uncertainty", **LOCAL)
    objective.weighting.log_variances.data.zero_()
    weights = objective(batch).weights
    assert (float(weights["local"]), float(weights["embedding"])) == (0.5, 0.5)  # 0.5 * 1, and 1 * 0.5


def test_one_batch_of_8_gives_the_gradients_of_2_micro_batches_of_4(
    random_objective: Callable[..., Any], data_root: Any
):
    split = open_prepared("spans", data_root).split("train")

    def gradients(micro: int) -> list[Tensor]:
        objective = random_objective(packing=True, **FLOWS["into_the_source"]).double()
        generator = torch.Generator().manual_seed(5)
        for part, name in (("encoder", "tokens"), ("decoder", "vocabulary"), ("local", "vocabulary")):
            layer = getattr(getattr(objective.model, part), name)
            layer.weight = torch.nn.Parameter(torch.randn(40, 16, generator=generator, dtype=torch.float64))
        options: dict[str, Any] = {"source_len": 12, "target_len": 12, "seed": 0, "device": "cpu"}
        parts = Batches(split, batch_size=8, micro_batch_size=micro, **options).at(3)
        assert len(parts) == 8 // micro
        sum(objective(part).total for part in parts).backward()
        return [p.grad for p in objective.parameters()]

    for one, other in zip(gradients(8), gradients(4), strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-9)
