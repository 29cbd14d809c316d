"""The JEPALM: TextEncoder, Predictor, TextDecoder.

source text -> TextEncoder -> source embeddings
                                   |
                               Predictor  -> predicted embeddings -> TextDecoder -> target text
                               (one shot)

The predictor of transitions also reads an action, by itself encoded.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from jepalm.config import ModelConfig
from jepalm.model.conditioning import ActionView
from jepalm.model.decoder import Decoder, build_decoder
from jepalm.model.encoder import TextEncoder, action_encoder
from jepalm.model.layout import Layout
from jepalm.model.predictor import Predictor


class JEPALM(nn.Module):
    """The model parts together; the objective says how they are trained."""

    def __init__(
        self,
        config: ModelConfig,
        vocab_size: int,
        *,
        length_head: bool,
        length_bins: int = 1,
        local_head: bool = False,
        variational: bool = False,
        attention: str = "auto",
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = TextEncoder(config, vocab_size, attention, variational=variational)
        self.predictor = Predictor(config, attention, vocab_size=vocab_size)
        self.decoder: Decoder = build_decoder(config, vocab_size, attention, variational=variational)
        self.length = LengthHead(config, length_bins) if length_head else None
        self.local = LocalHead(config, vocab_size) if local_head else None
        own = config.action.conditioning != "none" and config.action.encoder == "own"
        self.action = action_encoder(config, vocab_size, attention) if own else None

    def parameters_by_part(self) -> dict[str, int]:
        """Number of parameters of each part."""
        return {name: sum(p.numel() for p in part.parameters()) for name, part in self.named_children()}


class LengthHead(nn.Module):
    """Length of the target from the mean embeddings of source and action: one number, or a logit a length."""

    def __init__(self, config: ModelConfig, n_bins: int = 1) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.dim, config.dim)
        self.out = nn.Linear(config.dim, n_bins)
        conditioned = config.action.conditioning != "none"
        self.action = nn.Linear(config.dim, config.dim, bias=False) if conditioned else None

    def forward(self, source: Tensor, layout: Layout, action: ActionView | None = None) -> Tensor:
        """Source embeddings (..., D) to (B,) predicted lengths, or to (B, n_bins) logits."""
        hidden = self.hidden(layout.mean(source))  # (B, D)
        if self.action is not None:
            assert action is not None
            embeddings, action_layout = action
            hidden = hidden + self.action(action_layout.mean(embeddings))
        return self.out(F.silu(hidden)).squeeze(-1)


class LocalHead(nn.Module):
    """A hidden token from the source's own embedding at its place, without predictor and decoder."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.dim, config.dim)
        self.vocabulary = nn.Linear(config.dim, vocab_size, bias=False)

    def forward(self, source: Tensor) -> Tensor:
        """Source embeddings (..., D) to (..., V) logits."""
        return self.vocabulary(F.silu(self.hidden(source)))
