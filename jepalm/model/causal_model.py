"""What a causal language model is to the objective, to generation and to the scorer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from jepalm.config import ModelConfig


class CausalModel(nn.Module):
    """Token ids to a distribution over the next token at every position.

    Texts are left-aligned, with padding on the right.

    Attributes:
        config: its sizes, as far as the configuration gives them.
    """

    config: ModelConfig

    @property
    def context_len(self) -> int:
        """Most positions that a token is predicted from."""
        return self.config.causal.context_len

    @property
    def n_frozen(self) -> int:
        """Parameters that never learn and that no checkpoint holds."""
        return 0

    def forward(self, ids: Tensor, cache: Any = None) -> Tensor:
        """(B, T) token ids to (B, T, V) logits of each next token."""
        return self.logits(self.hidden(ids, cache))

    def hidden(self, ids: Tensor, cache: Any = None) -> Tensor:
        """(B, T) token ids to (B, T, D), what the last layer makes of them, after the last norm.

        Args:
            ids: left-aligned; with a cache, those that follow what it holds.
            cache: what `new_cache` gave; is written. Its lengths grow by T; who reads padded texts sets
                them right after.
        """
        raise NotImplementedError

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
