from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jepalm.model.blocks import Attention, attend, init_weights, rotate
from jepalm.model.layout import Layout
from jepalm.model.token_shift import TokenShift

Lengths = st.lists(st.integers(1, 7), min_size=2, max_size=5)


@given(Lengths, st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_pad_undoes_pack_with_zeros_beyond_the_text(lengths: list[int], extra: int):
    width = max(lengths) + extra
    layout = Layout.of(torch.tensor(lengths), width, packed=True)
    x = torch.randn(len(lengths), width, 3)
    expected = torch.zeros_like(x)
    for row, length in enumerate(lengths):
        expected[row, :length] = x[row, :length]
    assert torch.equal(layout.pad(layout.pack(x)), expected)


@given(Lengths)
@settings(max_examples=25, deadline=None)
def test_pack_keeps_one_row_a_position_of_text_in_order(lengths: list[int]):
    layout = Layout.of(torch.tensor(lengths), max(lengths), packed=True)
    x = torch.arange(len(lengths) * max(lengths)).view(len(lengths), -1)
    expected = [x[row, place].item() for row, length in enumerate(lengths) for place in range(length)]
    assert layout.pack(x).tolist() == expected


def test_a_text_by_itself_is_not_packed():
    assert Layout.of(torch.tensor([3]), 3, packed=True).index is None


def test_source_positions_end_at_minus_one_where_the_target_begins_at_zero():
    lengths = torch.tensor([3, 1])
    source = Layout.of(lengths, 3, packed=False, ends_at_zero=True)
    target = Layout.of(lengths, 3, packed=False)
    assert source.positions.tolist() == [[-3, -2, -1], [-1, 0, 1]]
    assert target.positions.tolist() == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize("packed", [True, False])
def test_mean_and_total_leave_padding_out(packed: bool):
    layout = Layout.of(torch.tensor([2, 3]), 3, packed=packed)
    x = torch.tensor([[[1.0], [3.0], [100.0]], [[4.0], [5.0], [9.0]]])
    assert layout.mean(layout.pack(x)).tolist() == [[2.0], [6.0]]
    assert float(layout.total(layout.pack(x.squeeze(-1)))) == 22.0


def test_rotary_angle_is_position_times_base_to_the_minus_two_i_over_c():
    cos, sin = Layout.of(torch.tensor([3]), 3, packed=False).angles(4)
    assert cos.shape == (1, 1, 3, 4)
    assert torch.allclose(cos[0, 0, 2], torch.tensor([2.0, 0.02, 2.0, 0.02]).cos())
    assert torch.allclose(sin[0, 0, 2], torch.tensor([2.0, 0.02, 2.0, 0.02]).sin())


def test_rotary_score_depends_on_relative_position_only():
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)

    def score(query_at: int, key_at: int) -> float:
        place = lambda position: Layout(  # noqa: E731
            torch.ones(1, 1, dtype=torch.bool), None, torch.tensor([[position]])
        ).angles(8)
        return float((rotate(q, place(query_at)) * rotate(k, place(key_at))).sum())

    assert score(5, 2) == pytest.approx(score(-1, -4), abs=1e-5)
    assert abs(score(5, 2) - score(5, 3)) > 1e-3


@pytest.mark.parametrize("kind", ["matmul", "sdpa", "auto"])
def test_attention_is_the_softmax_mean_of_the_values_that_hold_text(kind: str):
    q = torch.tensor([[[[1.0, 0.0]]]])
    k = torch.tensor([[[[2.0, 0.0], [0.0, 3.0], [50.0, 50.0]]]])
    v = torch.tensor([[[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]]])
    mask = torch.tensor([[True, True, False]])
    share = torch.tensor([2.0, 0.0]).div(2**0.5).softmax(0)  # scores over the root of 2 channels
    assert torch.allclose(attend(q, k, v, mask, kind)[0, 0, 0], share, atol=1e-6)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", ["auto", "matmul", "sdpa"])
def test_what_lies_in_the_padding_never_reaches_the_text(packed: bool, kind: str):
    torch.manual_seed(0)
    layer = Attention(8, 2, kind=kind).double()
    layout = Layout.of(torch.tensor([2, 4]), 4, packed=packed)
    x = torch.randn(2, 4, 8, dtype=torch.float64)
    other = x.masked_fill(~layout.mask[..., None], 1e3)
    one, two = (layout.pad(layer(layout.pack(rows), layout)) for rows in (x, other))
    assert torch.equal(one[layout.mask], two[layout.mask])


def test_pad_ids_do_not_change_the_embeddings_or_the_prediction(random_objective: Any, make_batch: Any):
    objective, batch = random_objective(), make_batch()
    before = objective.encode_and_predict(batch)
    for view in (batch.source, batch.target):
        view.ids.masked_fill_(~view.mask, 7)
    after = objective.encode_and_predict(batch)
    mask = batch.target.mask
    assert torch.equal(before.predicted[mask], after.predicted[mask])
    assert torch.equal(before.target[mask], after.target[mask])
    assert torch.equal(before.lengths, after.lengths)


def test_preceding_embeddings_are_added_by_place_and_never_from_before_the_text():
    part = TokenShift(2, 2)
    part.weight.data = torch.tensor(
        [[0.5, 1.0], [0.25, 0.0]]
    )  # of the token before, and of the one before that
    x = torch.tensor([[[8.0, 1.0], [4.0, 2.0], [2.0, 4.0]]])
    assert part(x)[0].tolist() == [[8.0, 1.0], [4.0 + 4.0, 2.0 + 1.0], [2.0 + 2.0 + 2.0, 4.0 + 2.0]]
    assert part(x[:, :1]).tolist() == [[[8.0, 1.0]]]


@pytest.mark.parametrize("cross", [True, False])
def test_matching_queries_and_keys_start_alike_so_that_likeness_scores_the_logit(cross: bool):
    torch.manual_seed(0)
    part = Attention(128, 4, source_dim=128 if cross else None)
    init_weights(part, 1)
    plain = part.state_dict()
    first = next(name for name in plain if name.startswith("query"))
    assert float(plain[first].detach().std()) == pytest.approx(0.02, rel=0.05)
    init_weights(part, 1, mimetic_init=True)
    if cross:
        assert part.query is not None
        assert part.key_value is not None
        query, key, value = part.query.weight, *part.key_value.weight.chunk(2)
    else:
        assert part.query_key_value is not None
        query, key, value = part.query_key_value.weight.chunk(3)
    assert torch.equal(query, key)
    assert float(value.detach().std()) == pytest.approx(0.02, rel=0.05)
    x = torch.randn(500, 128)
    own = (x @ query.T * (x @ key.T)).unflatten(-1, (4, 32)).sum(-1) / 32**0.5  # (500, H)
    assert float(own.detach().mean()) == pytest.approx(2.5, rel=0.05)


def test_queries_and_keys_of_unequal_widths_are_left_as_they_are():
    part = Attention(16, 2, source_dim=8)
    init_weights(part, 1, mimetic_init=True)
    assert part.query is not None
    assert float(part.query.weight.detach().std()) == pytest.approx(0.02, rel=0.3)
