"""The TextEncoder: text to embeddings, with bidirectional layers or those of a causal language model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepalm.config import LatentConfig, ModelConfig
from jepalm.model.blocks import Block, init_weights
from jepalm.model.causal import CausalLM, CausalModel
from jepalm.model.latents import LatentHead, Posterior, has_bottleneck
from jepalm.model.layout import Layout, at_least_float32
from jepalm.model.token_shift import TokenShift


class TextEncoder(nn.Module):
    """Bidirectional Transformer, or a causal one's layers: token ids to one embedding a position.

    With `layernorm` normalisation every embedding has mean 0 and variance 1 over its dimensions, so
    predicting zero costs exactly `dim` in summed squared error. A bottleneck makes latents of a target's
    embeddings; a source keeps one embedding a position.
    """

    def __init__(
        self, config: ModelConfig, vocab_size: int, attention: str = "auto", *, variational: bool = False
    ) -> None:
        super().__init__()
        self.normalisation = config.encoder.normalisation
        causal, token_shift = config.encoder.kind == "causal", config.encoder.token_shift
        self.causal_encoder = CausalEncoder(config, vocab_size, attention) if causal else None
        self.token_shift = TokenShift(config.dim, token_shift) if token_shift else None
        if not causal:
            self.tokens = nn.Embedding(vocab_size, config.dim)
            self.blocks = nn.ModuleList(
                Block(config.dim, config.n_heads, config.ffn_mult, config.dropout, attention=attention)
                for _ in range(config.encoder.n_layers)
            )
            init_weights(self, max(1, config.encoder.n_layers), mimetic_init=config.mimetic_init)
        self.latents = LatentHead(config, variational) if has_bottleneck(config, variational) else None

    def forward(self, ids: Tensor, layout: Layout) -> Tensor:
        """(B, T) token ids to (..., D) embeddings, packed as the layout says."""
        if self.causal_encoder is not None:
            return self.normalise(self.causal_encoder(ids, layout))
        if self.token_shift is None:
            x = self.tokens(layout.pack(ids))  # (..., D)
        else:
            x = layout.pack(self.token_shift(self.tokens(ids)))  # (..., D)
        for block in self.blocks:
            x = block(x, layout)
        return self.normalise(x)

    def normalise(self, states: Tensor) -> Tensor:
        """States (..., D) of the last layer to embeddings (..., D)."""
        if self.normalisation == "none":
            return states
        return F.layer_norm(at_least_float32(states), states.shape[-1:])

    def posterior(self, ids: Tensor, layout: Layout) -> Posterior:
        """(B, T) token ids to the target embeddings, packed as `layout.latents` says."""
        return self.squeeze(self(ids, layout), layout)

    def squeeze(self, embeddings: Tensor, layout: Layout) -> Posterior:
        """One embedding a position (..., D) to those of a target (..., D'), by a bottleneck if any."""
        return Posterior(embeddings) if self.latents is None else self.latents(embeddings, layout)


class CausalEncoder(nn.Module):
    """A causal language model's layers as an encoder: each embedding knows the text up to its position.

    It can take over the layers of a trained model of the same sizes: `start_from`.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, attention: str = "auto") -> None:
        super().__init__()
        causal = config.causal.model_copy(update={"n_layers": config.encoder.n_layers, "tied": True})
        self.lm = CausalLM(config.model_copy(update={"causal": causal}), vocab_size, attention)

    def forward(self, ids: Tensor, layout: Layout) -> Tensor:
        """(B, T) token ids to (..., D) states, packed as the layout says."""
        lengths = None if layout.index is None else layout.mask.sum(1)
        return layout.pack(self.lm.hidden(ids, lengths=lengths))

    def fits(self, other: CausalModel) -> bool:
        """Whether the other's layers have these sizes."""
        same_heads = self.lm.config.n_heads == other.config.n_heads
        return same_heads and self._shapes(self.lm) == self._shapes(other)

    def equals(self, other: CausalModel) -> bool:
        """Whether the layers are those of a model that fits, as far as an encoder has them."""
        given = other.state_dict()
        return all(torch.equal(value, given[name]) for name, value in self.lm.state_dict().items())

    def start_from(self, other: CausalModel) -> None:
        """Take over the layers of a model that fits."""
        own = self.lm.state_dict()
        self.lm.load_state_dict({name: value for name, value in other.state_dict().items() if name in own})

    @staticmethod
    def _shapes(model: CausalModel) -> dict[str, tuple[int, ...]]:
        named = model.state_dict().items()
        return {name: tuple(value.shape) for name, value in named if not name.startswith("vocabulary.")}


def action_encoder(config: ModelConfig, vocab_size: int, attention: str = "auto") -> TextEncoder:
    """An encoder of actions alone: of the same width, with its own depth."""
    encoder = config.encoder.model_copy(update={"n_layers": config.action.n_layers})
    own = {"encoder": encoder, "latent": LatentConfig()}
    return TextEncoder(config.model_copy(update=own), vocab_size, attention)
