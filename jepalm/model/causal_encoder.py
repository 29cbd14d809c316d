"""A causal language model's layers as an encoder of text."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jepalm.config import ModelConfig
from jepalm.model.causal_lm import CausalLM
from jepalm.model.causal_model import CausalModel
from jepalm.model.layout import Layout


class CausalEncoder(nn.Module):
    """Token ids to the states of a causal model, one a position, which knows what stands up to it.

    What a trained model of the same sizes knows of the next token it can be given: `start_from`.
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
        return self._shapes(self.lm) == self._shapes(other) and _heads(self.lm) == _heads(other)

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


def _heads(model: CausalModel) -> int:
    return model.config.n_heads
