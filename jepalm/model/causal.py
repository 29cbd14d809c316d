"""The CausalLM: a decoder-only Transformer that predicts each token from those before it.

RMSNorm, rotary attention, SwiGLU, one table of tokens for context and writing. Reads top to bottom:
cache, attention, feed-forward, block, what every causal model offers, model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepalm.config import ModelConfig
from jepalm.model.blocks import EMBEDDING_STD, MATMUL_ATTENTION_UP_TO, init_weights, rotate
from jepalm.model.layout import Layout, rotary_angles


@dataclass
class KVCache:
    """Keys and values of the positions read so far, in room that is allocated once.

    Texts may have unequal lengths: each row writes behind its own last position.

    Attributes:
        keys: (L, B, H, T, C) of all layers.
        values: (L, B, H, T, C).
        lengths: (B,) positions of each text that are filled.
        filled: the longest of them, kept beside the tensor so that nothing waits for the device.
    """

    keys: Tensor
    values: Tensor
    lengths: Tensor
    filled: int = 0

    @property
    def room(self) -> int:
        """Positions that a text may have."""
        return self.keys.shape[3]

    def keep(self, lengths: Sequence[int]) -> None:
        """Forget what stands behind the first `lengths` positions of each text."""
        self.lengths = torch.tensor(lengths, device=self.lengths.device)
        self.filled = max(lengths)

    def take(self, other: KVCache, rows: Sequence[int]) -> None:
        """Take what another cache of as much room holds, its texts as these rows; the lengths stay."""
        places = torch.tensor(rows, device=self.lengths.device)
        self.keys[:, places, :, : other.filled] = other.keys[:, :, :, : other.filled]
        self.values[:, places, :, : other.filled] = other.values[:, :, :, : other.filled]

    def write(self, layer: int, positions: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put keys and values (B, H, T, C) at positions (B, T); return the layer's filled part."""
        rows = torch.arange(len(positions), device=positions.device)[:, None]
        self.keys[layer][rows, :, positions] = k.transpose(1, 2)
        self.values[layer][rows, :, positions] = v.transpose(1, 2)
        return self.keys[layer, :, :, : self.filled], self.values[layer, :, :, : self.filled]


@dataclass(frozen=True)
class CausalContext:
    """What all layers share in one forward pass.

    Attributes:
        angles: rotary angles of the positions.
        positions: (B, T) places in the text, when a cache is written.
        mask: (B, 1, T, Tk) bool, which keys each position sees; None: those up to itself.
        cache: what earlier passes read.
        text: which positions are computed, where it is not all of them.
    """

    angles: tuple[Tensor, Tensor]
    positions: Tensor | None = None
    mask: Tensor | None = None
    cache: KVCache | None = None
    text: Layout | None = None

    def pad(self, x: Tensor) -> Tensor:
        """(N, ...) of the computed positions to (B, T, ...)."""
        return x if self.text is None else self.text.pad(x)

    def pack(self, x: Tensor) -> Tensor:
        """Inverse of `pad`."""
        return x if self.text is None else self.text.pack(x)


class CausalAttention(nn.Module):
    """Multi-head attention with rotary positions over a position and those before it."""

    def __init__(self, dim: int, n_heads: int, dropout: float, layer: int, kind: str) -> None:
        super().__init__()
        self.n_heads, self.dropout, self.layer, self.kind = n_heads, dropout, layer, kind
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, context: CausalContext) -> Tensor:
        """(B, T, D) to (B, T, D), or (N, D) to (N, D) of the computed positions."""
        split = context.pad(self.query_key_value(x)).unflatten(-1, (3, self.n_heads, -1))  # (B, T, 3, H, C)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)  # three of (B, H, T, C)
        q, k = rotate(q, context.angles), rotate(k, context.angles)
        if context.cache is not None:
            assert context.positions is not None
            k, v = context.cache.write(self.layer, context.positions, k, v)  # (B, H, filled, C)
        mixed = attend_before(q, k, v, context.mask, self.dropout if self.training else 0.0, self.kind)
        return self.out(context.pack(mixed.transpose(1, 2).flatten(2)))  # (B, T, D)


def attend_before(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float, kind: str = "auto"
) -> Tensor:
    """Softmax attention over each position and those before it.

    Args:
        q: (B, H, T, C).
        k: (B, H, Tk, C).
        v: (B, H, Tk, C).
        mask: (B, 1, T, Tk) bool; None is the lower triangle, of as many keys as queries.
        dropout: probability that an attention weight is dropped.
        kind: "sdpa", "matmul" or "auto" (by device, precision, length and mask).

    Returns:
        (B, H, T, C).
    """
    # without a mask, in float32, the fused kernel is twice as fast from 32 positions on
    slow = q.dtype != torch.float32 or mask is not None
    if kind == "matmul" or (kind == "auto" and q.device.type == "cpu" and slow and _short(q, k)):
        if mask is None:
            mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)  # (B, H, T, Tk)
        weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
        return F.dropout(weights, dropout) @ v if dropout else weights @ v
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=mask is None)


def _short(q: Tensor, k: Tensor) -> bool:
    return q.shape[2] == k.shape[2] <= MATMUL_ATTENTION_UP_TO


class SwiGLU(nn.Module):
    """Feed-forward with a SiLU gate (arXiv 2002.05202, eq. 6); inner width to a multiple of 16."""

    def __init__(self, dim: int, mult: float) -> None:
        super().__init__()
        inner = max(16, 16 * round(dim * mult / 16))
        self.gate_up = nn.Linear(dim, 2 * inner, bias=False)
        self.down = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class CausalBlock(nn.Module):
    """Pre-norm Transformer block."""

    def __init__(self, config: ModelConfig, layer: int, attention: str) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.dim)
        self.attention = CausalAttention(config.dim, config.n_heads, config.dropout, layer, attention)
        self.ffn_norm = nn.RMSNorm(config.dim)
        self.ffn = SwiGLU(config.dim, config.ffn_mult)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, context: CausalContext) -> Tensor:
        """(B, T, D) to (B, T, D), or (N, D) to (N, D) of the computed positions."""
        x = x + self.dropout(self.attention(self.attention_norm(x), context))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))


class CausalModel(nn.Module):
    """What objective, generation and scorer ask of a causal language model, of this kind or a backbone.

    Texts are left-aligned, with padding on the right. For latent prediction (LLM-JEPA, arXiv 2509.14252) a
    model may have tokens that stand in no vocabulary: the ids from its table's size on, which are read
    and never written.

    Attributes:
        config: its sizes, as far as the configuration gives them.
        vocab_size: tokens that are written.
        tokens: the table of tokens.
        predictor_tokens: the table of those beside it, where there are some.
        predictor: a linear map of a view's embedding, where there is one.
    """

    config: ModelConfig
    vocab_size: int
    tokens: nn.Embedding
    predictor_tokens: nn.Embedding | None
    predictor: nn.Linear | None

    @property
    def context_len(self) -> int:
        """Most positions that a token is predicted from."""
        return self.config.causal.context_len

    @property
    def n_predictor_tokens(self) -> int:
        """Tokens that are read beside the vocabulary."""
        return 0 if self.predictor_tokens is None else self.predictor_tokens.num_embeddings

    @property
    def n_frozen(self) -> int:
        """Parameters that never learn and that no checkpoint holds."""
        return 0

    def forward(self, ids: Tensor, cache: Any = None) -> Tensor:
        """(B, T) token ids to (B, T, V) logits of each next token."""
        return self.logits(self.hidden(ids, cache))

    def hidden(
        self, ids: Tensor, cache: Any = None, segments: Tensor | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        """(B, T) token ids to (B, T, D), what the last layer makes of them, after the last norm.

        Args:
            ids: left-aligned; with a cache, those that follow what it holds.
            cache: what `new_cache` gave; is written. Its lengths grow by T; who reads padded texts sets
                them right after.
            segments: (B, T) numbers that never fall along a row. Positions of one number are a text of
                their own: blind to the others, its places counted from 0. None: each row is one text.
            lengths: (B,) positions of each row to compute; the others are 0. None computes all, padding too.
        """
        raise NotImplementedError

    def embed(self, ids: Tensor) -> Tensor:
        """(...) token ids to (..., D), those from the vocabulary's size on as predictor tokens."""
        if self.predictor_tokens is None:
            return self.tokens(ids)
        beyond = ids - self.tokens.num_embeddings  # (...)
        text = self.tokens(ids.clamp(max=self.tokens.num_embeddings - 1))  # (..., D)
        others = self.predictor_tokens(beyond.clamp(min=0)).to(text.dtype)  # (..., D)
        return torch.where((beyond >= 0)[..., None], others, text)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) to (..., V)."""
        raise NotImplementedError

    def new_cache(self, n_texts: int, room: int | None = None) -> Any:
        """An empty cache of `room` positions for each text, `context_len` when not given."""
        raise NotImplementedError

    def parameters_by_part(self) -> dict[str, int]:
        """Number of parameters of each part."""
        return {
            name: count
            for name, part in self.named_children()
            if (count := sum(p.numel() for p in part.parameters()))
        }


class CausalLM(CausalModel):
    """Token ids to a distribution over the next token at every position.

    Texts are left-aligned: padding on the right is never seen by what stands before it, so no mask
    is needed.

    For latent prediction (LLM-JEPA, arXiv 2509.14252) it may have tokens that stand in no vocabulary:
    the ids from `vocab_size` on, which are read and never written.

    Args:
        config: sizes.
        vocab_size: tokens that are read and written.
        attention: see `attend_before`.
        predictor_tokens: how many tokens are read beside the vocabulary.
        linear_predictor: whether the model has a linear map of a view's embedding, at first the identity.
    """

    def __init__(
        self,
        config: ModelConfig,
        vocab_size: int,
        attention: str = "auto",
        *,
        predictor_tokens: int = 0,
        linear_predictor: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.tokens = nn.Embedding(vocab_size, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            CausalBlock(config, layer, attention) for layer in range(config.causal.n_layers)
        )
        self.norm = nn.RMSNorm(config.dim)
        self.vocabulary = None if config.causal.tied else nn.Linear(config.dim, vocab_size, bias=False)
        init_weights(self, config.causal.n_layers)
        # last, so that the rest starts as it does without them
        self.predictor_tokens = nn.Embedding(predictor_tokens, config.dim) if predictor_tokens else None
        if self.predictor_tokens is not None:
            nn.init.normal_(self.predictor_tokens.weight, std=EMBEDDING_STD)
        self.predictor = nn.Linear(config.dim, config.dim, bias=False) if linear_predictor else None
        if self.predictor is not None:
            nn.init.eye_(self.predictor.weight)

    def hidden(
        self,
        ids: Tensor,
        cache: KVCache | None = None,
        segments: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """(B, T) token ids to (B, T, D), what the last layer makes of them, after the last norm.

        Args:
            ids: left-aligned; with a cache, those that follow what it holds.
            cache: is written. Its lengths grow by T; who reads padded texts sets them right after.
            segments: (B, T) numbers that never fall along a row. Positions of one number are a text of
                their own: blind to the others, its places counted from 0. None: each row is one text.
            lengths: (B,) positions of each row to compute; the others are 0. None computes all, padding too.
        """
        context = self._context(ids, cache) if segments is None else self._segments_context(segments)
        if lengths is not None:
            context = replace(context, text=Layout.of(lengths, ids.shape[1], packed=True))
        x = self.dropout(self.embed(context.pack(ids)))  # (B, T, D)
        for block in self.blocks:
            x = block(x, context)
        if cache is not None:
            cache.lengths = cache.lengths + ids.shape[1]
        return context.pad(self.norm(x))

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) to (..., V)."""
        if self.vocabulary is None:
            return F.linear(hidden, self.tokens.weight)
        return self.vocabulary(hidden)

    def new_cache(self, n_texts: int, room: int | None = None) -> KVCache:
        """An empty cache of `room` positions for each text, `context_len` when not given."""
        heads, device = self.config.n_heads, self.tokens.weight.device
        shape = (len(self.blocks), n_texts, heads, room or self.context_len, self.config.dim // heads)
        half = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if half else self.tokens.weight.dtype
        keys, values = torch.zeros(2, *shape, dtype=dtype, device=device)
        return KVCache(keys, values, torch.zeros(n_texts, dtype=torch.long, device=device))

    def _context(self, ids: Tensor, cache: KVCache | None) -> CausalContext:
        head_dim = self.config.dim // self.config.n_heads
        steps = torch.arange(ids.shape[1], device=ids.device)[None]  # (1, T)
        if cache is None:
            return CausalContext(rotary_angles(steps, head_dim))
        positions = cache.lengths[:, None] + steps  # (B, T)
        cache.filled = min(cache.room, cache.filled + ids.shape[1])
        keys = torch.arange(cache.filled, device=ids.device)
        mask = keys <= positions[:, None, :, None]  # (B, 1, T, filled)
        return CausalContext(rotary_angles(positions, head_dim), positions, mask, cache)

    def _segments_context(self, segments: Tensor) -> CausalContext:
        mask, places = apart(segments)
        angles = rotary_angles(places, self.config.dim // self.config.n_heads)
        return CausalContext(angles, mask=mask[:, None])


def apart(segments: Tensor) -> tuple[Tensor, Tensor]:
    """Each segment (B, T) a text of its own: what it sees, (B, T, T), and its places, (B, T), from 0.

    It is causal in itself; every position sees at least itself.
    """
    width = segments.shape[1]
    steps = torch.arange(width, device=segments.device).expand_as(segments)  # (B, T)
    begins = F.pad(segments[:, 1:] != segments[:, :-1], (1, 0))  # (B, T)
    starts = (steps * begins).cummax(1).values  # (B, T)
    before = torch.ones(width, width, dtype=torch.bool, device=segments.device).tril()
    return before & (segments[:, :, None] == segments[:, None]), steps - starts
