"""The layout of texts of unequal length.

Shapes: B texts, T positions, D width. Where it pays (a CPU), the positions that hold text are packed into
(N, D) rows, so that no matrix product is spent on padding; only attention sees the padded (B, T, D) form.
Both forms compute the same function.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

ROTARY_BASE = 10_000.0


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
    _head_rows: dict[tuple[int, int], HeadRows] = field(default_factory=dict, repr=False)
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

    def head_rows(self, n_heads: int, head_dim: int) -> HeadRows:
        """Where the heads of packed rows lie in the padded form; worked out once for all layers."""
        key = (n_heads, head_dim)
        if key not in self._head_rows:
            assert self.index is not None
            batch, width = self.mask.shape
            text, place = self.index // width, self.index % width  # (N,)
            heads = torch.arange(n_heads, device=self.index.device)
            flat = ((text[:, None] * n_heads + heads) * width + place[:, None]).flatten()  # (N * H,)
            cos, sin = (
                self.pack(part.squeeze(1))[:, None, : head_dim // 2] for part in self.angles(head_dim)
            )
            self._head_rows[key] = HeadRows(flat, (batch, n_heads, width), cos, sin)
        return self._head_rows[key]

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
    angle = torch.cat((angle, angle), dim=-1)[:, None]  # (B, 1, T, C)
    return angle.cos(), angle.sin()
