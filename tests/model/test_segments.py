"""Several texts in one row of the causal model, and predictor tokens beside the vocabulary."""

import pytest
import torch

from jepalm.config import from_mapping
from jepalm.data.batches import pad_rows
from jepalm.model.causal import CausalLM
from jepalm.objective.views import PADDING, pack_views

VOCAB = 11
FIRST = [[3, 4, 5, 6, 7], [8], [9, 10, 3]]
SECOND = [[4], [5, 6, 7, 8], [10, 9]]


def build(kind="auto", tokens=2, seed=0, spread=True, **settings):
    tree = {"model": {"family": "causal", "dim": 16, "n_heads": 2, "causal": {"n_layers": 2}, **settings}}
    torch.manual_seed(seed)
    model = CausalLM(from_mapping(tree).model, VOCAB, kind, predictor_tokens=tokens).eval()
    for parameter in model.parameters() if spread else []:
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def packed(tokens):
    views = [[pad_rows(rows, torch.device("cpu"))] for rows in (FIRST, SECOND)]
    return pack_views(*views, first_token=VOCAB, n_tokens=tokens)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("kind", ["sdpa", "matmul"])
@pytest.mark.parametrize("tokens", [0, 2])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_packed_views_have_the_embeddings_of_views_read_alone(dtype, tolerance, kind, tokens, pooling):
    model = build(kind, tokens).to(dtype)
    model.tokens.weight.data *= 3  # so that what is not blind to the other view would show
    views = packed(tokens)
    hidden = model.hidden(views.ids, segments=views.segments)
    predictor = list(range(VOCAB, VOCAB + tokens))
    for found, rows, behind in (
        (views.first(hidden, pooling), FIRST, predictor),
        (views.second(hidden, pooling), SECOND, []),
    ):
        for place, row in enumerate(rows):
            alone = model.hidden(torch.tensor([row + behind]))[0]  # (T, D)
            expected = alone[-1] if pooling == "last" else alone.mean(0)
            torch.testing.assert_close(found[place], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("tokens", [0, 2])
def test_every_position_sees_its_segment_up_to_itself_and_nothing_else(tokens):
    model, views = build(tokens=tokens), packed(tokens)
    mask = model._segments_context(views.segments).mask[:, 0]  # (B, T, T)
    for row, segments in zip(mask, views.segments, strict=True):
        for here, seen in enumerate(row):
            expected = [there <= here and segments[there] == segments[here] for there in range(len(seen))]
            assert seen.tolist() == expected
    assert bool(mask.any(-1).all())  # padding included


def test_segments_are_the_first_view_its_predictor_tokens_the_second_view_and_padding():
    views = packed(2)
    assert views.ids[1].tolist() == [8, VOCAB, VOCAB + 1, 5, 6, 7, 8, 0, 0, 0, 0]
    assert views.segments[1].tolist() == [0, 0, 0, 1, 1, 1, 1, PADDING, PADDING, PADDING, PADDING]
    assert (views.middle.tolist(), views.end.tolist()) == ([7, 3, 5], [8, 7, 7])


def test_positions_start_anew_in_each_segment():
    model = build(tokens=0)
    segments = torch.tensor([[0, 0, 0, 1, 1, 2]])
    cos, sin = model._segments_context(segments).angles
    whole = model._context(torch.zeros(1, 3, dtype=torch.long), None).angles
    for found, alone in ((cos, whole[0]), (sin, whole[1])):
        torch.testing.assert_close(found[0, 0], alone[0, 0, [0, 1, 2, 0, 1, 0]], rtol=0, atol=0)


@pytest.mark.parametrize("apart", [False, True])
def test_leaving_padding_out_changes_no_text(apart):
    model, views = build(), packed(2)
    segments = views.segments if apart else None
    every = model.hidden(views.ids, segments=segments)
    some = model.hidden(views.ids, segments=segments, lengths=views.end)
    text = views.segments != PADDING
    torch.testing.assert_close(some[text], every[text], rtol=0, atol=1e-6)
    assert not some[~text].any()


def test_predictor_tokens_leave_the_rest_of_the_start_as_it_is():
    plain, more = build(tokens=0, spread=False), build(tokens=3, spread=False)
    own = more.state_dict()
    assert own.keys() - plain.state_dict().keys() == {"predictor_tokens.weight"}
    for name, value in plain.state_dict().items():
        assert torch.equal(value, own[name]), name


def test_predictor_tokens_are_read_and_never_written():
    model = build()
    logits = model(torch.tensor([[3, VOCAB, VOCAB + 1]]))
    assert logits.shape == (1, 3, VOCAB)
    torch.testing.assert_close(model.embed(torch.tensor([VOCAB + 1])), model.predictor_tokens.weight[1:])
