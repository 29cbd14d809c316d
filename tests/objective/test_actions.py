"""Transitions in the objective: one function packed and padded, where gradients flow, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from jepalm.data.batches import Batch, Tokens
from jepalm.errors import UsageError

WAYS = {
    "cross": {"model__action__conditioning": "cross"},
    "adaln": {"model__action__conditioning": "adaln"},
    "both": {"model__action__conditioning": "both", "model__source_positions": "aligned"},
    "own": {
        "model__action__conditioning": "both",
        "model__action__encoder": "own",
        "model__action__n_layers": 1,
        "model__predictor__dim": 8,
    },
}
LEARNED = {"objective__generation__weight": 1.0, "objective__embedding__detach_source": False}
RELATIVE = {"objective__length__relative": True}
CLASSES = {"objective__length__kind": "classification"}


@pytest.fixture
def transitions(make_batch: Any) -> Batch:
    lengths = torch.tensor([3, 6, 1, 2])
    ids = torch.randint(3, 11, (4, 6), generator=torch.Generator().manual_seed(5))
    return replace(make_batch(), action=Tokens(ids * (torch.arange(6) < lengths[:, None]), lengths))


@pytest.mark.parametrize("length", [{}, RELATIVE | CLASSES], ids=["mse", "difference"])
@pytest.mark.parametrize("attention", ["auto", "sdpa"])
@pytest.mark.parametrize("way", WAYS)
def test_packed_terms_and_all_gradients_equal_the_padded_ones(
    random_objective: Any, transitions: Batch, way: str, attention: str, length: dict[str, Any]
):
    settings = WAYS[way] | LEARNED | length
    found = []
    for form in ({"attention": "matmul"}, {"packing": True, "attention": attention}):
        objective = random_objective(**form, **settings).double()
        losses = objective(transitions)
        losses.total.backward()
        gradients = {name: p.grad for name, p in objective.named_parameters()}
        assert all(gradient is not None for gradient in gradients.values())
        found.append({**losses.terms, **gradients})
    plain, packed = found
    for name, value in plain.items():
        assert torch.allclose(value, packed[name], rtol=1e-10, atol=1e-10), name


@pytest.mark.parametrize("way", WAYS)
def test_a_prediction_depends_on_its_own_action(random_objective: Any, transitions: Batch, way: str):
    objective = random_objective(packing=True, **WAYS[way]).eval()
    assert transitions.action is not None
    ids = transitions.action.ids.clone()
    ids[1, 0] = 3 + (ids[1, 0] - 2) % 8
    other = replace(transitions, action=Tokens(ids, transitions.action.lengths))
    views, changed = (objective.encode_and_predict(batch) for batch in (transitions, other))
    moved = views.target_layout.pad((views.predicted - changed.predicted).abs().sum(-1)).sum(1)
    assert moved[1] > 1e-3
    assert moved[[0, 2, 3]].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("detached", "encoder"), [(True, "own"), (True, "shared"), (False, "shared")])
def test_what_reads_the_action_learns_from_predictions_unless_it_is_the_detached_encoder(
    random_objective: Any, transitions: Batch, detached: bool, encoder: str
):
    objective = random_objective(
        **{**WAYS["both"], "model__action__encoder": encoder},
        objective__generation__weight=1.0,
        objective__embedding__detach_source=detached,
    )
    part = objective.model.action if encoder == "own" else objective.model.encoder
    weight = part.blocks[0].ffn.up.weight
    for term in ("embedding", "generation"):
        value = objective(transitions).terms[term]
        (gradient,) = torch.autograd.grad(value, [weight], allow_unused=True)
        learns = gradient is not None and bool(gradient.norm() > 0)
        assert learns == (encoder == "own" or not detached)


@pytest.mark.parametrize("detached", [True, False])
def test_the_length_head_teaches_the_action_only_where_it_is_told_to(
    random_objective: Any, transitions: Batch, detached: bool
):
    objective = random_objective(**WAYS["own"], objective__length__detach_source=detached)
    weight = objective.model.action.blocks[0].ffn.up.weight
    (gradient,) = torch.autograd.grad(objective(transitions).terms["length"], [weight], allow_unused=True)
    assert (gradient is not None) != detached


def test_transitions_without_actions_are_refused_in_one_line(random_objective: Any, make_batch: Any):
    objective = random_objective(**WAYS["cross"])
    with pytest.raises(UsageError, match="predicts from a source and an action, and there is no action"):
        objective(make_batch())
    source, layout = objective.encode_source(make_batch().source)
    with pytest.raises(UsageError, match="there is no action"):
        objective.predict(source, layout, layout)


def test_a_model_without_conditioning_computes_the_same_whether_there_are_actions_or_not(
    random_objective: Any, transitions: Batch
):
    objective = random_objective(packing=True)
    one, other = (objective(batch).total for batch in (transitions, replace(transitions, action=None)))
    assert torch.equal(one, other)


def test_a_relative_squared_error_is_that_of_the_source_length_plus_the_head(
    random_objective: Any, transitions: Batch
):
    plain, relative = random_objective(), random_objective(**RELATIVE)
    difference = plain.encode_and_predict(transitions).lengths
    lengths = relative.encode_and_predict(transitions).lengths
    assert torch.equal(lengths, difference + torch.tensor([5, 1, 12, 7]))
    error = lengths - torch.tensor([9, 2, 4, 12])
    torch.testing.assert_close(relative(transitions).terms["length"], error.square().mean())


def test_a_difference_of_lengths_is_one_class_whatever_the_source_has(random_objective: Any, make_batch: Any):
    """The head that always says `two more` is right about every source; class 12 + d is a difference of d."""
    objective = random_objective(**RELATIVE, **CLASSES)
    head = objective.model.length
    assert head.out.weight.shape[0] == 25
    with torch.no_grad():
        head.out.weight.zero_()
        head.out.bias.zero_()
        head.out.bias[14], head.out.bias[13], head.out.bias[0] = 30.0, 20.0, 10.0
    batch = make_batch((5, 1, 10, 7), (7, 3, 12, 9))
    source, layout = objective.encode_source(batch.source)
    assert objective.likely_lengths(source, layout, 2).tolist() == [[7, 6], [3, 2], [12, 11], [9, 8]]
    assert float(objective(batch).terms["length"].detach()) < 1e-3
    lengths = objective.encode_and_predict(batch).lengths
    torch.testing.assert_close(lengths, torch.tensor([7.0, 3.0, 12.0, 9.0]), atol=1e-3, rtol=0)


def test_aligned_sources_count_from_zero(random_objective: Any, make_batch: Any):
    before, aligned = random_objective(), random_objective(model__source_positions="aligned")
    tokens = make_batch((3, 1)).source
    assert before.source_layout(tokens).positions.tolist() == [[-3, -2, -1], [-1, 0, 1]]
    assert aligned.source_layout(tokens).positions.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert torch.equal(
        aligned.lay_out_sources(tokens.lengths, 3).positions, aligned.source_layout(tokens).positions
    )
