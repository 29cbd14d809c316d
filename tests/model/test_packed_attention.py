import pytest
import torch

from jepalm.model.blocks import MATMUL_ATTENTION_UP_TO, Attention, PackedAttention
from jepalm.model.layout import Layout

HEADS, CHANNELS = 2, 4


def layouts() -> tuple[Layout, Layout]:
    targets = Layout.of(torch.tensor([3, 1]), 3, packed=True)
    sources = Layout.of(torch.tensor([1, 4]), 4, packed=True, ends_at_zero=True)
    return targets, sources


def rows(layout: Layout, parts: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(parts)
    size = (int(layout.mask.sum()), parts * HEADS * CHANNELS)
    return torch.randn(size, dtype=torch.float64, generator=generator).requires_grad_()


@pytest.mark.parametrize("causal", [False, True])
def test_gradcheck_of_self_attention(causal: bool):
    layout, _ = layouts()
    where = layout.head_rows("qkv", HEADS, CHANNELS, torch.float64)
    bias = layout.bias(causal=causal)
    assert torch.autograd.gradcheck(
        lambda x: PackedAttention.apply(x, None, where, where, bias), rows(layout, 3)
    )


def test_gradcheck_of_cross_attention():
    targets, sources = layouts()
    places = (
        targets.head_rows("q", HEADS, CHANNELS, torch.float64),
        sources.head_rows("kv", HEADS, CHANNELS, torch.float64),
    )
    assert torch.autograd.gradcheck(
        lambda q, kv: PackedAttention.apply(q, kv, *places, sources.bias(causal=False)),
        (rows(targets, 1), rows(sources, 2)),
    )


@pytest.mark.parametrize(("cross", "causal"), [(False, False), (False, True), (True, False)])
def test_the_packed_kernel_gives_what_the_plain_form_gives(cross: bool, causal: bool):
    torch.manual_seed(0)
    targets, sources = layouts()
    layer = Attention(8, HEADS, 8 if cross else None, causal=causal).double()
    x = torch.randn(int(targets.mask.sum()), 8, dtype=torch.float64)
    memory = (torch.randn(int(sources.mask.sum()), 8, dtype=torch.float64), sources) if cross else None
    packed = layer(x, targets, memory)
    layer.kind = "matmul"
    assert torch.allclose(packed, layer(x, targets, memory), atol=1e-12)


@pytest.mark.parametrize("cross", [False, True])
def test_texts_longer_than_the_packed_kernel_give_the_same_as_the_fused_one(cross: bool):
    torch.manual_seed(0)
    width = MATMUL_ATTENTION_UP_TO + 1
    layout = Layout.of(torch.tensor([width, 2]), width, packed=True)
    layer = Attention(8, HEADS, 8 if cross else None).double()
    x = torch.randn(int(layout.mask.sum()), 8, dtype=torch.float64)
    memory = (x, layout) if cross else None
    auto = layer(x, layout, memory)
    layer.kind = "sdpa"
    assert torch.allclose(auto, layer(x, layout, memory), atol=1e-12)
