"""The JEPALM: TextEncoder, Predictor, TextDecoder.

source text -> TextEncoder -> source embeddings
                                   |
                               Predictor  -> predicted embeddings -> TextDecoder -> target text
                               (one shot)

The predictor of transitions also reads an action, by itself encoded.
"""

from __future__ import annotations

from torch import nn

from jepalm.config import ModelConfig
from jepalm.model.decoder import Decoder, build_decoder
from jepalm.model.encoder import TextEncoder, action_encoder
from jepalm.model.predictor import LengthHead, LocalHead, Predictor


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
