"""What a causal language model is to the objective, to generation and to the scorer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from jepalm.config import ModelConfig


class CausalModel(nn.Module):
    """Token ids to a distribution over the next token at every position.

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
        self,
        ids: Tensor,
        cache: Any = None,
        segments: Tensor | None = None,
        lengths: Tensor | None = None,
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
