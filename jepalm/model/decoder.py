"""Decoders: embeddings of a passage back to text, all tokens at once or by a light autoregressive step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepalm.config import ModelConfig
from jepalm.model.blocks import Block, init_weights
from jepalm.model.latents import LatentReader, has_bottleneck
from jepalm.model.layout import Layout

NGRAM_WEIGHT = 0.5
"""Share of an n-gram expert's log-probabilities in the logits, before anything is learned."""
TOKEN_STD = 0.3
"""Standard deviation of the token vectors of a light decoder at initialisation, summed over its context."""


@dataclass(frozen=True)
class DecoderContext:
    """What an autoregressive decoder reads beside the embeddings.

    Attributes:
        previous: (B, T, m) the m tokens before each position, the nearest first; before the target stand the
            source's last tokens, before these padding.
        source: (B, D) the source's last embedding.
        ngram: (B, T, V) log-probabilities of an n-gram model, for a decoder that has it as an expert.
    """

    previous: Tensor
    source: Tensor
    ngram: Tensor | None = None


class TextDecoder(nn.Module):
    """Bidirectional Transformer: embeddings of a passage to one token distribution a position."""

    def __init__(
        self, config: ModelConfig, vocab_size: int, attention: str = "auto", *, variational: bool = False
    ) -> None:
        super().__init__()
        n_layers = config.decoder.n_layers
        self.latents = LatentReader(config) if has_bottleneck(config, variational) else None
        self.blocks = nn.ModuleList(
            Block(config.dim, config.n_heads, config.ffn_mult, config.dropout, attention=attention)
            for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(config.dim, bias=False)
        self.vocabulary = nn.Linear(config.dim, vocab_size, bias=False)
        init_weights(self, max(1, n_layers), mimetic_init=config.mimetic_init)

    def forward(self, embeddings: Tensor, layout: Layout) -> Tensor:
        """(..., D') embeddings, packed as `layout.latents` says, to (..., V) logits of the positions."""
        x = embeddings if self.latents is None else self.latents(embeddings, layout)  # (..., D)
        for block in self.blocks:
            x = block(x, layout)
        return self.vocabulary(self.norm(x))


class LightDecoder(nn.Module):
    """What both autoregressive decoders are: W e_i beside what they make of the tokens before."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Linear(config.target_dim, config.decoder.dim or config.dim)
        self.positions = position_vectors(config)
        expert = config.decoder.ngram > 0
        self.ngram_weight = nn.Parameter(torch.full((1,), NGRAM_WEIGHT)) if expert else None

    def read(self, embeddings: Tensor, layout: Layout) -> Tensor:
        """W e_i of embeddings (..., D') that are laid out so, (..., H)."""
        if self.positions is not None:
            embeddings = self.positions(layout.pack(layout.positions))  # (..., D')
        return self.embedding(embeddings)

    def with_expert(self, logits: Tensor, layout: Layout, context: DecoderContext) -> Tensor:
        """Logits (..., V) and, with an n-gram expert, its weighted log-probabilities."""
        if self.ngram_weight is None:
            return logits
        assert context.ngram is not None, "there are no counts for model.decoder.ngram"
        return logits + self.ngram_weight * layout.pack(context.ngram)


class LocalDecoder(LightDecoder):
    """p(x_i | e_i, x_(i-1) .. x_(i-m)): a feed-forward layer over an embedding and the last m tokens.

    h = W e_i + sum_k T_k[x_(i-k)], then SiLU, one hidden layer, SiLU, vocabulary. With m = 0 every token is
    independent of the others.
    """

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__(config)
        width, m = self.embedding.out_features, config.decoder.context
        self.tokens = nn.ModuleList(nn.Embedding(vocab_size, width) for _ in range(m))
        self.hidden = nn.Linear(width, width)
        self.vocabulary = nn.Linear(width, vocab_size)
        for parameter in self.tokens.parameters():
            nn.init.normal_(parameter, std=TOKEN_STD / math.sqrt(m))

    def forward(self, embeddings: Tensor, layout: Layout, context: DecoderContext) -> Tensor:
        """(..., D') embeddings, laid out so, and the tokens before them to (..., V) logits."""
        h = self.read(embeddings, layout)  # (..., H)
        for k, table in enumerate(self.tokens):
            h = h + table(layout.pack(context.previous[..., k]))
        return self.with_expert(self.logits(h), layout, context)

    def logits(self, h: Tensor) -> Tensor:
        """The sum of embedding and token vectors (..., H) to logits (..., V)."""
        return self.vocabulary(F.silu(self.hidden(F.silu(h))))


class RecurrentDecoder(LightDecoder):
    """p(x_i | e_1 .. e_i, x_1 .. x_(i-1)): a GRU over embeddings and tokens (arXiv 1406.1078).

    Its state starts from the source's last embedding, its input is W e_i + T[x_(i-1)]. Before the first
    position it reads T[x] of the m - 1 tokens before the source's last one, so that the state knows the text
    that goes on.
    """

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__(config)
        width = self.embedding.out_features
        self.n_previous = config.decoder.n_previous
        self.tokens = nn.Embedding(vocab_size, width)
        self.start = nn.Linear(config.dim, width)
        self.dropout = nn.Dropout(config.dropout)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.vocabulary = nn.Linear(width, vocab_size)
        nn.init.normal_(self.tokens.weight, std=TOKEN_STD)

    def forward(self, embeddings: Tensor, layout: Layout, context: DecoderContext) -> Tensor:
        """(..., D') embeddings, laid out so, and the tokens before them to (..., V) logits."""
        tail = self.tokens(context.previous[:, 0, 1:].flip(1))  # (B, m - 1, H)
        x = layout.pad(self.read(embeddings, layout)) + self.tokens(context.previous[..., 0])  # (B, T, H)
        inputs = self.dropout(torch.cat((tail, x), 1))  # (B, m - 1 + T, H)
        hidden, _ = self.gru(inputs, self.start_state(context.source)[None])
        logits = self.vocabulary(self.dropout(layout.pack(hidden[:, tail.shape[1] :])))  # (..., V)
        return self.with_expert(logits, layout, context)

    def start_state(self, source: Tensor) -> Tensor:
        """The source's last embedding (B, D) to the first state (B, H)."""
        return torch.tanh(self.start(source))


def position_vectors(config: ModelConfig) -> nn.Embedding | None:
    """A learned vector a position for a decoder that reads these in place of embeddings."""
    if config.decoder.embeddings == "predicted":
        return None
    vectors = nn.Embedding(max(config.n_target_positions, config.source_len), config.target_dim)
    nn.init.zeros_(vectors.weight)  # drawn ones would be noise to a decoder that has learned the language
    return vectors


Decoder = TextDecoder | LocalDecoder | RecurrentDecoder


def build_decoder(
    config: ModelConfig, vocab_size: int, attention: str = "auto", *, variational: bool = False
) -> Decoder:
    """The decoder that the config names."""
    if config.decoder.kind == "local":
        return LocalDecoder(config, vocab_size)
    if config.decoder.kind == "recurrent":
        return RecurrentDecoder(config, vocab_size)
    return TextDecoder(config, vocab_size, attention, variational=variational)
