"""Transformer blocks: rotary attention, feed-forward, AdaLN modulation, initialisation.

Shapes: B texts, T positions, D width, H heads, C = D / H; packed or padded as the layout says (`layout`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from jepalm.model.layout import HeadRows, Layout
from jepalm.model.token_shift import TokenShift

MATMUL_ATTENTION_UP_TO = 256
"""On a CPU, plain matrix products beat the fused kernel's backward up to about this many positions."""

EMBEDDING_STD = 0.02
"""Deviation that embeddings and most matrices start with."""
MIMETIC_LOGIT = 2.5
"""About the attention logit of a position to one with the same embedding under mimetic initialisation."""


def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate queries or keys (B, H, T, C) by (B, 1, T, C) angles (arXiv 2104.09864, eq. 34, half-split)."""
    cos, sin = (part.to(x.dtype) for part in angles)
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, kind: str, *, causal: bool = False) -> Tensor:
    """Softmax attention over the keys that hold text.

    Args:
        q: (B, H, Tq, C).
        k: (B, H, Tk, C).
        v: (B, H, Tk, C).
        mask: (B, Tk) bool; every text has at least one position.
        kind: "sdpa", "matmul" or "auto" (by device and length).
        causal: each position sees itself and those before it alone.

    Returns:
        (B, H, Tq, C).
    """
    seen = mask[:, None, None]  # (B, 1, 1, Tk)
    if causal:
        seen = seen & torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    if kind == "matmul" or (kind == "auto" and q.device.type == "cpu" and _short(q, k)):
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, Tq, Tk)
        scores = scores.masked_fill(~seen, float("-inf"))
        return scores.softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen)


def _short(q: Tensor, k: Tensor) -> bool:
    return max(q.shape[2], k.shape[2]) <= MATMUL_ATTENTION_UP_TO


class PackedAttention(torch.autograd.Function):
    """Rotary softmax attention over packed rows: `attend` with a backward of its own.

    The plain form spends most of a short text's time on copies: padding, head permutations, stacked
    gradients, rotations of padding. Here rows are rotated while packed, gathered once into (B, H, T, C) and
    once back; the backward does the same in reverse. The softmax is at least in float32, where it is faster.

    `query` is (N, D) and `key_value` (M, 2 D); or, for self-attention, `query` holds (N, 3 D) and
    `key_value` is None. Returns (N, D).
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key_value: Tensor | None,
        rows: HeadRows,
        key_rows: HeadRows,
        bias: Tensor,
    ) -> Tensor:
        """Attend; `bias` is added to the scores, (B, 1, 1 or Tq, Tk), -inf for what is not seen."""
        q, *rest = rows.spread(query).unbind()
        k, v = rest if key_value is None else key_rows.spread(key_value).unbind()  # (B H, Tk, C)
        scores = torch.bmm(q, k.transpose(1, 2)).unflatten(0, (len(bias), -1)) + bias  # (B, H, Tq, Tk)
        attention = scores.softmax(-1).flatten(0, 1).to(q.dtype)
        ctx.save_for_backward(q, k, v, attention)
        ctx.rows, ctx.key_rows = rows, key_rows
        return rows.pack(torch.bmm(attention, v))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the query rows and of the key and value rows."""
        rows, key_rows = ctx.rows, ctx.key_rows
        q, k, v, attention = ctx.saved_tensors
        out, once = rows.pad(grad), rows is key_rows
        queries = q.new_empty(*rows.shape, q.shape[-1])
        keys = queries[1:] if once else q.new_empty(*key_rows.shape, q.shape[-1])
        torch.bmm(attention.transpose(1, 2), out, out=keys[1])
        grad_attention = torch.bmm(out, v.transpose(1, 2))
        scores = torch._softmax_backward_data(grad_attention, attention, -1, attention.dtype)
        torch.bmm(scores, k, out=queries[0])
        torch.bmm(scores.transpose(1, 2), q, out=keys[0])
        return rows.collect(queries), None if once else key_rows.collect(keys), None, None, None


class Attention(nn.Module):
    """Multi-head attention with rotary positions: over itself, or over another text.

    With `causal`, self-attention sees each position and those before it.
    """

    def __init__(
        self,
        dim: int,
        n_heads: int,
        source_dim: int | None = None,
        kind: str = "auto",
        *,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.n_heads, self.kind, self.causal = n_heads, kind, causal
        self.cross = source_dim is not None
        self.head_dim = dim // n_heads
        self.query = nn.Linear(dim, dim, bias=False) if self.cross else None
        self.key_value = nn.Linear(source_dim, 2 * dim, bias=False) if source_dim is not None else None
        self.query_key_value = None if self.cross else nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    @torch.no_grad()
    def mimetic_init(self) -> None:
        """Give queries and keys the same weights, where they read embeddings of the same width.

        After mimetic initialisation (arXiv 2305.09828).
        """
        if self.query_key_value is not None:
            query, key, _ = self.query_key_value.weight.chunk(3)  # three of (D, D)
        else:
            assert self.query is not None
            assert self.key_value is not None
            query, key = self.query.weight, self.key_value.weight.chunk(2)[0]  # (D, D), (D, D')
        if query.shape == key.shape:
            std = math.sqrt(MIMETIC_LOGIT / (query.shape[1] * math.sqrt(self.head_dim)))
            key.copy_(nn.init.normal_(query, std=std))

    def forward(self, x: Tensor, layout: Layout, memory: tuple[Tensor, Layout] | None = None) -> Tensor:
        """Attend from `x` (packed or padded, D) to itself, or to `memory` = (embeddings, their layout)."""
        if memory is None:
            assert self.query_key_value is not None
            query, key_value, keys = self.query_key_value(x), None, layout
        else:
            assert self.query is not None
            assert self.key_value is not None
            source, keys = memory
            query, key_value = self.query(x), self.key_value(source)
        if layout.index is not None and self.kind == "auto" and self._short(layout, keys):
            sizes = self.n_heads, self.head_dim, query.dtype
            rows = layout.head_rows("qkv" if key_value is None else "q", *sizes)
            key_rows = rows if key_value is None else keys.head_rows("kv", *sizes)
            bias = keys.bias(causal=self.causal)
            mixed: Tensor = PackedAttention.apply(query, key_value, rows, key_rows, bias)  # (N, D)
            return self.out(mixed)
        if key_value is None:
            q, k, v = self._heads(layout.pad(query), 3)
        else:
            (q,), (k, v) = self._heads(layout.pad(query), 1), self._heads(keys.pad(key_value), 2)
        q = rotate(q, layout.angles(self.head_dim))
        k = rotate(k, keys.angles(self.head_dim))
        mixed = attend(q, k, v, keys.mask, self.kind, causal=self.causal)
        return self.out(layout.pack(mixed.transpose(1, 2).flatten(2)))  # (..., D)

    @staticmethod
    def _short(queries: Layout, keys: Layout) -> bool:
        return max(queries.mask.shape[1], keys.mask.shape[1]) <= MATMUL_ATTENTION_UP_TO

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        split = x.unflatten(-1, (parts, self.n_heads, -1))  # (B, T, parts, H, C)
        return split.permute(2, 0, 3, 1, 4).unbind(0)  # parts of (B, H, T, C)


class FeedForward(nn.Module):
    """Two layers with a SiLU between; the inner width is `dim * mult`, to the nearest multiple of 16.

    SiLU costs a third of GELU's forward and backward on a CPU.
    """

    def __init__(self, dim: int, mult: float) -> None:
        super().__init__()
        inner = max(16, 16 * round(dim * mult / 16))
        self.up = nn.Linear(dim, inner, bias=False)
        self.down = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return self.down(F.silu(self.up(x)))


BranchModulation = tuple[Tensor, Tensor, Tensor]
"""Shift, scale and gate of a branch, each (..., D)."""


class Modulation(nn.Module):
    """AdaLN-zero: what one vector a text does to a block's branches (DiT, arXiv 2212.09748, section 3.2).

    `x + gate * branch(norm(x) * (1 + scale) + shift)`, all three linear in the vector and zero at first: the
    block begins as the identity. LeWorldModel (arXiv 2603.19312) conditions its predictor on actions so.
    """

    def __init__(self, dim: int, condition_dim: int, n_branches: int) -> None:
        super().__init__()
        self.n_branches = n_branches
        self.linear = nn.Linear(condition_dim, 3 * n_branches * dim)

    def reset(self) -> None:
        """Make the block the identity."""
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, condition: Tensor, layout: Layout) -> list[BranchModulation]:
        """(B, D') to shift, scale and gate of each branch, each (..., D) at the layout's positions."""
        modulation = layout.spread(self.linear(F.silu(condition)))  # (..., 3 * branches * D)
        parts = modulation.chunk(3 * self.n_branches, dim=-1)
        return list(zip(parts[::3], parts[1::3], parts[2::3], strict=True))


class Block(nn.Module):
    """Pre-norm Transformer block: self-attention, optional cross-attention, feed-forward.

    With a condition, each of these branches is modulated by it.
    """

    def __init__(
        self,
        dim: int,
        n_heads: int,
        ffn_mult: float,
        dropout: float = 0.0,
        source_dim: int | None = None,
        attention: str = "auto",
        condition_dim: int | None = None,
        *,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim, bias=False)
        self.attention = Attention(dim, n_heads, kind=attention, causal=causal)
        self.cross_norm = nn.LayerNorm(dim, bias=False) if source_dim is not None else None
        self.cross = Attention(dim, n_heads, source_dim, attention) if source_dim is not None else None
        self.ffn_norm = nn.LayerNorm(dim, bias=False)
        self.ffn = FeedForward(dim, ffn_mult)
        self.dropout = nn.Dropout(dropout)
        branches = 2 if source_dim is None else 3
        self.modulation = None if condition_dim is None else Modulation(dim, condition_dim, branches)

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        memory: tuple[Tensor, Layout] | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """(..., D) to (..., D); cross-attention reads `memory`, a `condition` (B, D') modulates."""
        if self.modulation is not None:
            assert condition is not None
            return self._modulated(x, layout, memory, self.modulation(condition, layout))
        x = x + self.dropout(self.attention(self.attention_norm(x), layout))
        if self.cross is not None and self.cross_norm is not None:
            assert memory is not None
            x = x + self.dropout(self.cross(self.cross_norm(x), layout, memory))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))

    def _modulated(
        self,
        x: Tensor,
        layout: Layout,
        memory: tuple[Tensor, Layout] | None,
        modulations: list[BranchModulation],
    ) -> Tensor:
        """The same with every branch modulated."""

        def branch(norm: nn.Module, part: nn.Module, modulation: BranchModulation, *given: Any) -> Tensor:
            shift, scale, gate = modulation
            return self.dropout(gate * part(norm(x) * (1 + scale) + shift, *given))

        x = x + branch(self.attention_norm, self.attention, modulations[0], layout)
        if self.cross is not None and self.cross_norm is not None:
            assert memory is not None
            x = x + branch(self.cross_norm, self.cross, modulations[1], layout, memory)
        return x + branch(self.ffn_norm, self.ffn, modulations[-1])


def init_weights(module: nn.Module, n_layers: int, *, mimetic_init: bool = False) -> None:
    """Normal(0, 0.02) for all matrices; those that write to the residual stream shrink by sqrt(2 n_layers).

    The scheme of GPT-2 (Radford et al. 2019, section 2.3). With `mimetic_init` queries and keys start with
    the same weights, so that each position first attends to those with embeddings like its own.
    """
    for name, parameter in module.named_parameters():
        if parameter.ndim < 2:
            continue
        writes = name.endswith(("out.weight", "down.weight"))
        nn.init.normal_(parameter, std=EMBEDDING_STD / math.sqrt(2 * n_layers) if writes else EMBEDDING_STD)
    for part in module.modules():
        if isinstance(part, TokenShift):
            part.reset()
    if mimetic_init:
        for part in module.modules():
            if isinstance(part, Attention):
                part.mimetic_init()
