"""The causal model: what it sees, what its cache keeps, how it starts."""

import math

import pytest
import torch
import torch.nn.functional as F

from jepalm.config import from_mapping
from jepalm.model.causal import CausalLM, attend_before

VOCAB = 11


def build(seed=0, kind="auto", **settings):
    causal = {"n_layers": 2, "context_len": 12, **settings.pop("causal", {})}
    tree = {"model": {"family": "causal", "dim": 16, "n_heads": 2, **settings, "causal": causal}}
    torch.manual_seed(seed)
    model = CausalLM(from_mapping(tree).model, VOCAB, kind).eval()
    for parameter in model.parameters():  # far enough from the start that attention matters
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def some_ids(batch=3, length=12, seed=1):
    return torch.randint(3, VOCAB, (batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["sdpa", "matmul"])
def test_a_later_token_never_changes_earlier_logits(kind):
    model, ids = build(kind=kind), some_ids()
    for place in range(ids.shape[1]):
        changed = ids.clone()
        changed[:, place] = (changed[:, place] - 3 + 1) % (VOCAB - 3) + 3
        before, after = model(ids), model(changed)
        torch.testing.assert_close(before[:, :place], after[:, :place], rtol=0, atol=1e-6)
        assert (before[:, place:] - after[:, place:]).abs().amax(dim=(0, 2)).min() > 1e-4


@pytest.mark.parametrize("cached", [False, True])
def test_both_attentions_are_the_same_function(cached):
    parts = torch.randn(3, 2, 2, 7, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    mask = torch.ones(7, 7, dtype=torch.bool).tril()[None, None].expand(2, 1, 7, 7) if cached else None
    fused, plain = (attend_before(*parts, mask, 0.0, kind) for kind in ("sdpa", "matmul"))
    torch.testing.assert_close(fused, plain, rtol=0, atol=1e-6)


def test_logits_are_those_of_the_equations_in_float64():
    model = build().double()
    ids = some_ids(batch=1, length=5)
    x = model.tokens.weight[ids[0]]
    for block in model.blocks:
        qkv = (norm(x, block.attention_norm) @ block.attention.query_key_value.weight.T).view(5, 3, 2, 8)
        heads = []
        for head in range(2):
            q, k, v = (qkv[:, part, head] for part in range(3))
            q, k = turned(q), turned(k)
            scores = (q @ k.T / math.sqrt(8)).masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf)
            heads.append(scores.softmax(-1) @ v)
        x = x + torch.cat(heads, -1) @ block.attention.out.weight.T
        gate, up = (norm(x, block.ffn_norm) @ block.ffn.gate_up.weight.T).chunk(2, -1)
        x = x + (gate * torch.sigmoid(gate) * up) @ block.ffn.down.weight.T
    expected = norm(x, model.norm) @ model.tokens.weight.T
    torch.testing.assert_close(model(ids)[0], expected, rtol=0, atol=1e-6)  # angles are float32


def norm(x, layer):
    return x / (x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).sqrt() * layer.weight


def turned(x):
    """Pairs (i, i + 4) as complex numbers, turned by position * 10000^(-i/4)."""
    angle = torch.arange(len(x))[:, None] * 10_000.0 ** -(torch.arange(4) / 4)
    whole = torch.complex(x[:, :4], x[:, 4:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat((whole.real, whole.imag), -1)


@pytest.mark.parametrize("steps", [[12], [1] * 12, [5, 1, 1, 5]])
def test_cached_logits_are_the_uncached_ones(steps):
    model, ids = build(), some_ids()
    cache = model.new_cache(3)
    with torch.no_grad():
        pieces = [model(part, cache) for part in ids.split(steps, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), model(ids), rtol=0, atol=1e-5)


def test_texts_of_unequal_length_share_a_cache():
    model, ids = build(), some_ids(batch=2)
    lengths = torch.tensor([6, 3])
    with torch.no_grad():
        cache = model.new_cache(2)
        model(ids[:, :6].masked_fill(torch.arange(6) >= lengths[:, None], 0), cache)
        cache.lengths = lengths
        got = model(ids[:, 6:7], cache)[:, 0]
        for row, length in enumerate(lengths.tolist()):
            alone = torch.cat((ids[row, :length], ids[row, 6:7]))[None]
            torch.testing.assert_close(got[row], model(alone)[0, -1], rtol=0, atol=1e-5)


def test_a_new_model_knows_nothing():
    """The first loss is about ln V, and residual writes begin smaller than other matrices."""
    torch.manual_seed(0)
    settings = {"family": "causal", "dim": 64, "n_heads": 2, "causal": {"n_layers": 8}}
    model = CausalLM(from_mapping({"model": settings}).model, VOCAB)
    ids = some_ids(batch=8)
    loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(VOCAB), abs=0.1)
    for block in model.blocks:
        assert block.ffn.down.weight.std().item() == pytest.approx(0.02 / math.sqrt(16), rel=0.1)
        assert block.ffn.gate_up.weight.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(("tied", "tables"), [(True, 1), (False, 2)])
def test_tied_embeddings_are_one_table(tied, tables):
    model = build(causal={"tied": tied})
    parts = model.parameters_by_part()
    assert parts["tokens"] + parts.get("vocabulary", 0) == tables * VOCAB * 16
    assert sum(parts.values()) == sum(p.numel() for p in model.parameters())


def test_dropout_is_drawn_in_training_only():
    model, ids = build(dropout=0.5), some_ids()
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))
