"""The layout of texts of unequal length.

Shapes: B texts, T positions, D width. Where it pays (a CPU), the positions that hold text are packed into
(N, D) rows, so that no matrix product is spent on padding; only attention sees the padded (B, T, D) form.
Both forms compute the same function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ROTARY_BASE = 10_000.0


@dataclass(frozen=True)
class HeadRows:
    """Queries, keys and values of packed rows, (N, P D) of P parts, as padded heads, (P, B H, T, C).

    Each way is one gather. The first R parts, queries and keys, are rotated while they are packed.

    Attributes:
        shape: (P, B * H, T).
        padded: (P * B * H * T,) the packed head at each place; some other one where there is no text.
        packed: (N * P * H,) the place of each packed head.
        first: (N * H,) the places of the first part.
        swapped: (N * R * H * 2,) half heads of the rotated parts, left for right.
        cos: (N, R * D) of the rotary angles; of queries times 1 / sqrt(C), the scale of the scores.
        sin: (N, R * D), of left halves negative.
    """

    shape: tuple[int, int, int]
    padded: Tensor
    packed: Tensor
    first: Tensor
    swapped: Tensor
    cos: Tensor
    sin: Tensor

    def spread(self, rows: Tensor) -> Tensor:
        """Rotate packed rows (N, P D) and lay them out, (P, B H, T, C)."""
        heads = self._rotate(rows.clone()).view(len(self.packed), -1)  # (N P H, C)
        return heads.index_select(0, self.padded).view(*self.shape, -1)

    def collect(self, heads: Tensor) -> Tensor:
        """Gradients (P, B H, T, C) of what `spread` gave to those of its rows (N, P D)."""
        rows = heads.flatten(0, 2).index_select(0, self.packed).view(len(self.cos), -1)
        return self._rotate(rows, back=True)

    def pad(self, rows: Tensor) -> Tensor:
        """(N, D) of one part, not rotated, to (B H, T, C), zeros where there is no text."""
        _, texts, width = self.shape
        heads = rows.reshape(len(self.first), -1)  # (N H, C)
        out = heads.new_zeros(texts * width, heads.shape[1]).index_copy_(0, self.first, heads)
        return out.view(texts, width, -1)

    def pack(self, heads: Tensor) -> Tensor:
        """Inverse of `pad`."""
        return heads.flatten(0, 1).index_select(0, self.first).view(len(self.cos), -1)

    def _rotate(self, rows: Tensor, *, back: bool = False) -> Tensor:
        """Rotate rows (N, P D), or back, in place."""
        rotated = rows[:, : self.cos.shape[1]]
        swapped = rows.view(-1, rows.shape[0] * rotated.shape[1] // len(self.swapped))  # (N P H 2, C / 2)
        swapped = swapped.index_select(0, self.swapped).view_as(self.sin)
        rotated.mul_(self.cos).addcmul_(swapped, self.sin, value=-1 if back else 1)
        return rows


@dataclass(frozen=True)
class Layout:
    """Which positions of a padded batch hold text, and whether activations are packed to them.

    Attributes:
        mask: (B, T) bool, true where there is text.
        index: (N,) flat position of each packed row, else None.
        positions: (B, T) place of each position in the passage, for rotary embeddings. Targets count
            from 0; sources count down to -1, so that a source ends where its target begins, unless both
            are aligned. Two views of one text both count from its start.
        given: whether the positions were given: they are then not simply 0, 1, 2, ...
    """

    mask: Tensor
    index: Tensor | None
    positions: Tensor
    given: bool = False
    _angles: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)
    _head_rows: dict[tuple[str, int, int, torch.dtype], HeadRows] = field(default_factory=dict, repr=False)
    _rotations: dict[Any, tuple[Tensor, ...]] = field(default_factory=dict, repr=False)
    _biases: dict[bool, Tensor] = field(default_factory=dict, repr=False)
    _latents: dict[int, Layout] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        lengths: Tensor,
        width: int,
        *,
        packed: bool,
        ends_at_zero: bool = False,
        places: Tensor | None = None,
    ) -> Layout:
        """Lay out texts of the given lengths (B,) in `width` positions, or at given places (B, width).

        A text by itself is not packed: it is seldom padded, and packing would only cost time.
        """
        steps = torch.arange(width, device=lengths.device).expand(lengths.shape[0], width)  # (B, T)
        mask = steps < lengths[:, None]  # (B, T)
        index = mask.flatten().nonzero().squeeze(1) if packed and len(lengths) > 1 else None  # (N,)
        if places is not None:
            return cls(mask, index, places, given=True)
        positions = steps - lengths[:, None] if ends_at_zero else steps  # (B, T)
        return cls(mask, index, positions)

    def pack(self, x: Tensor) -> Tensor:
        """(B, T, ...) to (N, ...) when packed, else unchanged."""
        return x if self.index is None else x.flatten(0, 1).index_select(0, self.index)

    def pad(self, x: Tensor) -> Tensor:
        """Inverse of `pack`, with zeros where there is no text."""
        if self.index is None:
            return x
        batch, width = self.mask.shape
        rows = x.new_zeros(batch * width, *x.shape[1:]).index_copy(0, self.index, x)
        return rows.unflatten(0, (batch, width))

    def beside(self, other: Layout) -> Layout:
        """Two texts of each pair as one of (B, T + T') positions, in which both keep their places."""
        mask = torch.cat((self.mask, other.mask), 1)  # (B, T + T')
        positions = torch.cat((self.positions, other.positions), 1)  # (B, T + T')
        if self.index is None or other.index is None:
            return Layout(mask, None, positions)
        width, others = self.mask.shape[1], other.mask.shape[1]
        own = self.index + self.index // width * others  # (N,)
        index = torch.cat((own, other.index + (other.index // others + 1) * width))  # (N + N',)
        return Layout(mask, index, positions)

    def join(self, x: Tensor, other: Tensor) -> Tensor:
        """What stands at the positions of this layout and of another, (..., D) each, as `beside` lays out."""
        return torch.cat((x, other), 1 if self.index is None else 0)

    def spread(self, x: Tensor) -> Tensor:
        """One row a text (B, D) to each of its positions (..., D); padded as (B, 1, D)."""
        if self.index is None:
            return x[:, None]
        return x.index_select(0, self.index // self.mask.shape[1])

    def latents(self, tokens: int) -> Layout:
        """The layout of latents of so many tokens each, (B, ceil(T / tokens)); one of one token is this."""
        if tokens == 1:
            return self
        if tokens not in self._latents:
            missing = -self.mask.shape[1] % tokens
            mask = F.pad(self.mask, (0, missing)).unflatten(1, (-1, tokens)).any(-1)  # (B, T')
            index = None if self.index is None else mask.flatten().nonzero().squeeze(1)  # (N',)
            self._latents[tokens] = Layout(mask, index, self.positions[:, ::tokens] // tokens)
        return self._latents[tokens]

    def angles(self, head_dim: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the rotary angles, two of (B, 1, T, C); worked out once for all layers."""
        if head_dim not in self._angles:
            self._angles[head_dim] = rotary_angles(self.positions, head_dim)
        return self._angles[head_dim]

    def bias(self, *, causal: bool) -> Tensor:
        """What is added to scores (B, H, T, T'): -inf for keys without text; worked out once for all layers.

        With `causal`, for those behind a query too; there are as many keys as queries.
        """
        if causal not in self._biases:
            seen = self.mask[:, None, None]  # (B, 1, 1, T)
            if causal:
                width = seen.shape[-1]
                seen = seen & torch.ones(width, width, dtype=torch.bool, device=seen.device).tril()
            self._biases[causal] = torch.zeros_like(seen, dtype=torch.float32).masked_fill_(~seen, -math.inf)
        return self._biases[causal]

    def head_rows(self, parts: str, n_heads: int, head_dim: int, dtype: torch.dtype) -> HeadRows:
        """Where the heads of packed rows lie in the padded form; worked out once for all layers.

        Args:
            parts: "qkv", or "q" and "kv" where these are of different texts.
            n_heads: H.
            head_dim: C.
            dtype: of the rows.
        """
        key = (parts, n_heads, head_dim, dtype)
        if key not in self._head_rows:
            assert self.index is not None
            (batch, width), device = self.mask.shape, self.index.device
            n_parts, dim = len(parts), n_heads * head_dim
            part = torch.arange(n_parts, device=device)[:, None]  # (P, 1)
            head = torch.arange(n_heads, device=device)  # (H,)
            numbers = torch.arange(len(self.index), device=device)  # (N,)
            rows = numbers.new_zeros(batch * width).index_copy_(0, self.index, numbers).view(batch, 1, width)
            padded = rows * (n_parts * n_heads) + (part * n_heads + head)[:, None, :, None]  # (P, B, H, T)
            places = self.index + self.index // width * ((n_heads - 1) * width)  # (N,)
            packed = places[:, None] + ((part * batch * n_heads + head) * width).flatten()  # (N, P H)
            rotated = slice(dim * ("q" not in parts), dim * (1 + ("k" in parts)))
            cos, sin = (table[:, rotated] for table in self._tables(n_heads, head_dim, dtype))
            halves = torch.arange(2 * cos.shape[1] // head_dim, device=device) ^ 1  # (R H 2,)
            swapped = numbers[:, None] * (2 * n_parts * n_heads) + halves
            self._head_rows[key] = HeadRows(
                (n_parts, batch * n_heads, width),
                padded.flatten(),
                packed.flatten(),
                packed[:, :n_heads].flatten(),
                swapped.flatten(),
                cos,
                sin,
            )
        return self._head_rows[key]

    def _tables(self, n_heads: int, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Cosine and sine for queries, scaled, and keys of packed rows, two of (N, 2 D); see `HeadRows`."""
        key = (n_heads, head_dim, dtype)
        if key not in self._rotations:
            cos, sin = (self.pack(x[:, 0]).to(dtype) for x in self.angles(head_dim))  # (N, C)
            left, right = sin.chunk(2, 1)
            self._rotations[key] = tuple(
                torch.cat([x / math.sqrt(head_dim)] * n_heads + [x] * n_heads, 1)
                for x in (cos, torch.cat((-left, right), 1))
            )
        return self._rotations[key]

    def total(self, x: Tensor) -> Tensor:
        """Sum over all positions that hold text: (...,) per position, packed or padded, to a scalar."""
        return x.sum() if self.index is not None else (x * self.mask).sum()

    def last(self, x: Tensor) -> Tensor:
        """Each text's last position: packed or padded (..., D) to (B, D)."""
        lengths = self.mask.sum(1)  # (B,)
        if self.index is not None:
            return x[lengths.cumsum(0) - 1]
        return x[torch.arange(lengths.shape[0], device=x.device), lengths - 1]

    def mean(self, x: Tensor) -> Tensor:
        """Mean over each text's positions: packed or padded (..., D) to (B, D)."""
        weights = self.mask.to(x.dtype)
        padded = self.pad(x) * weights[..., None]  # (B, T, D)
        return padded.sum(1) / weights.sum(1, keepdim=True)


def at_least_float32(x: Tensor) -> Tensor:
    """Raise half precisions to float32; leave others as they are."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def rotary_angles(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary angles of positions (B, T), two of (B, 1, T, C).

    RoFormer, arXiv 2104.09864, section 3.2.2: angle = position * 10000^(-2i/C).
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim
    angle = positions[..., None].float() * ROTARY_BASE**-exponents  # (B, T, C/2)
    cos, sin = (torch.cat((part, part), dim=-1)[:, None] for part in (angle.cos(), angle.sin()))
    return cos, sin
