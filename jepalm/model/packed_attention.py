"""Attention over packed texts, with its own backward: what a CPU wants for short texts.

The plain form spends most of its time on copies (padding, head permutations, stacked gradients) and in
rotations of padding. Here rows are rotated while packed, moved once into (B, H, T, C) and moved
once back; the backward does the same in reverse. Same function as `blocks.attend`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class HeadRows:
    """Where each packed row's heads lie in the padded (B, H, T, C) form.

    Attributes:
        index: (N * H,) flat rows of (B * H * T).
        shape: (B, H, T).
        cos: (N, 1, C / 2) of the rotary angles.
        sin: (N, 1, C / 2).
    """

    index: Tensor
    shape: tuple[int, int, int]
    cos: Tensor
    sin: Tensor

    def spread(self, rows: Tensor) -> Tensor:
        """(N, H, C) to (B * H, T, C), zeros where there is no text."""
        batch, heads, width = self.shape
        out = rows.new_zeros(batch * heads * width, rows.shape[-1])
        out.index_copy_(0, self.index, rows.reshape(-1, rows.shape[-1]))
        return out.view(batch * heads, width, -1)

    def collect(self, heads: Tensor) -> Tensor:
        """Inverse of `spread`: (B * H, T, C) to (N, H, C)."""
        channels = heads.shape[-1]
        return heads.reshape(-1, channels).index_select(0, self.index).view(-1, self.shape[1], channels)

    def rotate(self, rows: Tensor, out: Tensor, *, back: bool = False) -> Tensor:
        """Rotate rows (N, H, C) by their angles, or back, into `out`."""
        cos, sin = self.cos.to(rows.dtype), self.sin.to(rows.dtype)
        left, right = rows.chunk(2, dim=-1)
        out_left, out_right = out.chunk(2, dim=-1)
        torch.mul(left, cos, out=out_left).addcmul_(right, sin, value=1 if back else -1)
        torch.mul(right, cos, out=out_right).addcmul_(left, sin, value=-1 if back else 1)
        return out


class PackedAttention(torch.autograd.Function):
    """Rotary softmax attention from packed query rows to packed key and value rows.

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
        key_mask: Tensor,
    ) -> Tensor:
        """Attend; `key_mask` is (B, Tk) bool."""
        heads = rows.shape[1]
        if key_value is None:
            q, k, v = query.unflatten(-1, (3, heads, -1)).unbind(1)  # three of (N, H, C)
        else:
            q = query.unflatten(-1, (heads, -1))
            k, v = key_value.unflatten(-1, (2, heads, -1)).unbind(1)
        q = rows.spread(rows.rotate(q, torch.empty_like(q, memory_format=torch.contiguous_format)))
        k = key_rows.spread(key_rows.rotate(k, torch.empty_like(k, memory_format=torch.contiguous_format)))
        v = key_rows.spread(v)
        ctx.scale = 1 / math.sqrt(q.shape[-1])
        scores = (
            torch.bmm(q, k.transpose(1, 2)).mul_(ctx.scale).unflatten(0, rows.shape[:2])
        )  # (B, H, Tq, Tk)
        scores = scores.masked_fill_(~key_mask[:, None, None], float("-inf")).flatten(0, 1)
        attention = scores.softmax(-1)
        ctx.save_for_backward(q, k, v, attention)
        ctx.rows, ctx.key_rows, ctx.packed_once = rows, key_rows, key_value is None
        return rows.collect(torch.bmm(attention, v)).flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the query rows and of the key and value rows."""
        rows, key_rows = ctx.rows, ctx.key_rows
        q, k, v, attention = ctx.saved_tensors
        heads, channels = rows.shape[1], q.shape[-1]
        out = rows.spread(grad.unflatten(-1, (heads, channels)))
        grad_v = torch.bmm(attention.transpose(1, 2), out)
        grad_attention = torch.bmm(out, v.transpose(1, 2))
        scores = torch._softmax_backward_data(grad_attention, attention, -1, attention.dtype)
        scores = scores.mul_(ctx.scale)
        grad_q, grad_k = torch.bmm(scores, k), torch.bmm(scores.transpose(1, 2), q)
        once = ctx.packed_once
        query = grad.new_empty(grad.shape[0], 3 if once else 1, heads, channels)
        keys = query[:, 1:] if once else grad.new_empty(key_rows.cos.shape[0], 2, heads, channels)
        rows.rotate(rows.collect(grad_q), query[:, 0], back=True)
        key_rows.rotate(key_rows.collect(grad_k), keys[:, 0], back=True)
        keys[:, 1] = key_rows.collect(grad_v)
        return query.flatten(1), None if once else keys.flatten(1), None, None, None
