"""The TextDecoder: embeddings of a passage back to text."""

from __future__ import annotations

from torch import Tensor, nn

from jepalm.config import ModelConfig
from jepalm.model.blocks import Block, init_weights
from jepalm.model.latents import LatentReader, has_bottleneck
from jepalm.model.layout import Layout


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
