"""The predictor's two ways to read an action, against numbers worked out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from jepalm.config import ModelConfig
from jepalm.model.blocks import Block, Modulation
from jepalm.model.conditioning import Conditioning
from jepalm.model.encoder import TextEncoder
from jepalm.model.jepalm import JEPALM
from jepalm.model.layout import Layout
from jepalm.model.predictor import Predictor

SIZES = {"dim": 8, "n_heads": 2, "ffn_mult": 2, "source_len": 5, "target_len": 5}


def predictor(conditioning: str) -> Predictor:
    torch.manual_seed(0)
    made = Predictor(
        ModelConfig.model_validate(
            {**SIZES, "predictor": {"n_layers": 1}, "action": {"conditioning": conditioning}}
        )
    )
    torch.nn.init.normal_(made.project.weight)
    return made.double()


def view(lengths: list[int], seed: int, *, packed: bool = False) -> tuple[torch.Tensor, Layout]:
    layout = Layout.of(torch.tensor(lengths), max(lengths), packed=packed)
    x = torch.randn(len(lengths), max(lengths), 8, generator=torch.Generator().manual_seed(seed))
    return layout.pack(x.double()), layout


def test_a_modulated_block_begins_as_the_identity() -> None:
    block = Block(8, 2, 2.0, source_dim=8, condition_dim=6)
    assert block.modulation is not None
    block.modulation.reset()
    x, layout = torch.randn(2, 3, 8), Layout.of(torch.tensor([3, 2]), 3, packed=False)
    memory = torch.randn(2, 3, 8), layout
    assert torch.equal(block(x, layout, memory, torch.randn(2, 6)), x)


def test_a_fresh_predictor_is_blind_to_what_only_modulates_it() -> None:
    made = predictor("adaln")
    source, layout = view([4, 2], 1)
    target = Layout.of(torch.tensor([3, 5]), 5, packed=False)
    one, other = (
        made(target, source, layout, Conditioning(view([2, 3], seed))).embeddings for seed in (2, 3)
    )
    assert torch.equal(one, other)
    assert one.abs().sum() > 0


def test_a_branch_is_shifted_scaled_and_gated_as_the_linear_layer_says() -> None:
    """Of the feed-forward branch: shift (1, 2), scale (3, 4) and gate (5, 6) times silu of the condition."""
    block = Block(2, 1, 8.0, condition_dim=1).double()
    assert block.modulation is not None
    block.modulation.reset()
    shift, scale, gate = torch.arange(1.0, 7.0, dtype=torch.float64).view(3, 2)
    with torch.no_grad():
        block.modulation.linear.weight[6:, 0] = torch.cat((shift, scale, gate))
    x, layout = torch.tensor([[[1.0, 3.0]]]).double(), Layout.of(torch.tensor([1]), 1, packed=False)
    conditioning = 2 / (1 + math.exp(-2))  # silu(2)
    normed = torch.tensor([-1.0, 1.0]).double() / math.sqrt(1 + 1e-5)  # of (1, 3): mean 2, variance 1
    read = normed * (1 + conditioning * scale) + conditioning * shift
    up, down = block.ffn.up.weight, block.ffn.down.weight
    expected = x[0, 0] + conditioning * gate * (down @ F.silu(up @ read))
    found = block(x, layout, condition=torch.tensor([[2.0]]).double())
    torch.testing.assert_close(found[0, 0], expected, rtol=1e-12, atol=1e-12)


def test_a_condition_reaches_all_positions_of_its_own_text_packed_as_padded() -> None:
    modulation, condition = Modulation(4, 3, 2), torch.randn(2, 3)
    lengths = torch.tensor([1, 3])
    for packed in (True, False):
        layout = Layout.of(lengths, 3, packed=packed)
        for change in modulation(condition, layout)[1]:
            rows = layout.pad(change) if packed else change.expand(2, 3, 4)
            assert torch.equal(rows[1, 0], rows[1, 2])
            assert not torch.equal(rows[0, 0], rows[1, 0])


@pytest.mark.parametrize("packed", [True, False])
def test_texts_beside_each_other_keep_their_rows_masks_and_places(packed: bool) -> None:
    source = Layout.of(torch.tensor([2, 1]), 2, packed=packed, ends_at_zero=True)
    action = Layout.of(torch.tensor([1, 3]), 3, packed=packed)
    both = source.beside(action)
    first, second = torch.tensor([[1, 2], [3, 0]]), torch.tensor([[4, 0, 0], [5, 6, 7]])
    joined = source.join(source.pack(first), action.pack(second))
    assert both.mask.tolist() == [[True, True, True, False, False], [True, False, True, True, True]]
    assert both.positions.tolist() == [[-2, -1, 0, 1, 2], [-1, 0, 0, 1, 2]]
    assert (both.pad(joined) * both.mask).tolist() == [[1, 2, 4, 0, 0], [3, 0, 5, 6, 7]]
    if packed:
        assert both.pack(both.pad(joined)).tolist() == joined.tolist()


def test_an_action_that_is_read_across_is_a_marked_continuation_of_the_source() -> None:
    """With a mark of zero the same keys stand in one text, at the places that both layouts say."""
    made = predictor("cross")
    assert made.action_mark is not None
    (source, layout), (action, places) = view([4, 4], 1), view([3, 3], 2)
    target = Layout.of(torch.tensor([3, 5]), 5, packed=False)
    marked = action + made.action_mark
    steps = torch.cat((torch.arange(4), torch.arange(3))).expand(2, 7)
    one_text = Layout.of(torch.tensor([7, 7]), 7, packed=False, places=steps)
    expected = made(target, torch.cat((source, marked), 1), one_text).embeddings
    torch.testing.assert_close(
        made(target, source, layout, Conditioning((action, places))).embeddings,
        expected,
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("packed", [True, False])
def test_aligned_predictions_start_from_the_source_at_their_place(packed: bool) -> None:
    """Blocks that add nothing leave one query for all and, where the source has the place, its embedding."""
    torch.manual_seed(0)
    config = {**SIZES, "source_positions": "aligned", "predictor": {"n_layers": 1}}
    made = Predictor(ModelConfig.model_validate(config)).double()
    assert made.source_in_query is not None
    with torch.no_grad():
        for name in ("attention.out", "cross.out", "ffn.down"):
            made.blocks[0].get_submodule(name).weight.zero_()
        made.project.weight.copy_(torch.eye(8))
    (source, layout), target = (
        view([2, 4], 1, packed=packed),
        Layout.of(torch.tensor([3, 1]), 3, packed=packed),
    )
    found = target.pad(made(target, source, layout).embeddings)
    there = layout.pad(source) @ made.source_in_query.weight.T
    for row, place, carried in ((0, 0, there[0, 0]), (0, 1, there[0, 1]), (0, 2, 0), (1, 0, there[1, 0])):
        torch.testing.assert_close(found[row, place], F.layer_norm(made.queries[0] + carried, (8,)))


def test_aligned_sources_have_one_query_for_targets_of_any_length() -> None:
    """Of nine equal embeddings all nine places are predicted alike, also those beyond `target_len`."""
    torch.manual_seed(0)
    config = {**SIZES, "source_positions": "aligned", "predictor": {"n_layers": 1}}
    made = Predictor(ModelConfig.model_validate(config))
    assert made.queries.shape == (1, 8)
    torch.nn.init.normal_(made.project.weight)
    source, layout = torch.randn(1, 1, 8).expand(1, 9, 8), Layout.of(torch.tensor([9]), 9, packed=False)
    found = made(layout, source, layout).embeddings  # (1, 9, 8)
    torch.testing.assert_close(found, found[:, :1].expand_as(found))


def test_without_conditioning_a_model_has_the_weights_it_always_had() -> None:
    def built(conditioning: str, encoder: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        action = {"conditioning": conditioning, "encoder": encoder}
        return JEPALM(
            ModelConfig.model_validate({**SIZES, "action": action}), 11, length_head=True
        ).state_dict()

    plain, unused, own = built("none", "shared"), built("none", "own"), built("cross", "own")
    assert plain.keys() == unused.keys()
    assert all(torch.equal(plain[name], unused[name]) for name in plain)
    assert not any("action" in name or "modulation" in name for name in plain)
    assert all(torch.equal(plain[name], own[name]) for name in plain if name.startswith("encoder"))
    assert {name.split(".")[0] for name in own.keys() - plain.keys()} == {"action", "predictor", "length"}


@pytest.mark.parametrize(("mimetic_init", "same"), [(True, True), (False, False)])
def test_an_aligned_query_starts_as_its_source_where_attention_matches(
    mimetic_init: bool, same: bool
) -> None:
    config = ModelConfig.model_validate(
        {**SIZES, "source_positions": "aligned", "mimetic_init": mimetic_init}
    )
    carry = Predictor(config).source_in_query
    assert carry is not None
    assert torch.equal(carry.weight, 0.25 * torch.eye(8)) == same


@pytest.mark.parametrize("packed", [True, False])
def test_a_token_takes_in_the_one_before_it_in_its_own_text_alone(packed: bool) -> None:
    encoder = {"n_layers": 0, "normalisation": "none", "token_shift": 1}
    made = TextEncoder(ModelConfig.model_validate({**SIZES, "encoder": encoder}), vocab_size=9)
    layout = Layout.of(torch.tensor([3, 2]), 3, packed=packed)
    found = layout.pad(made(torch.tensor([[3, 4, 5], [6, 7, 0]]), layout))
    one = made.tokens.weight
    expected = [[one[3], one[4] + 0.5 * one[3], one[5] + 0.5 * one[4]], [one[6], one[7] + 0.5 * one[6]]]
    assert torch.allclose(found[0], torch.stack(expected[0]))
    assert torch.allclose(found[1, :2], torch.stack(expected[1]))
