"""How the next token is chosen."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: 0 takes the most likely token; above, logits are divided by it and drawn from.
        top_k: keep only this many most likely tokens.
        top_p: keep only the most likely tokens that together reach this probability (arXiv 1904.09751).
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def choose(self, logits: Tensor, noise: Tensor | None = None) -> Tensor:
        """The tokens (...) with the highest kept(logits / temperature) + noise: a sample of what is kept.

        Args:
            logits: (..., V).
            noise: (..., V) standard Gumbel noise; not read at temperature 0.
        """
        if self.temperature == 0:
            return logits.argmax(-1)
        assert noise is not None, "to draw at random takes noise"
        return (self.kept(logits / self.temperature) + noise).argmax(-1)

    def kept(self, logits: Tensor) -> Tensor:
        """(..., V) logits with those that are not kept at -inf."""
        if self.top_k is not None:
            least = logits.topk(min(self.top_k, logits.shape[-1])).values[..., -1:]  # (..., 1)
            logits = logits.masked_fill(logits < least, float("-inf"))
        if self.top_p is not None:
            ordered, places = logits.sort(-1, descending=True)
            probabilities = ordered.softmax(-1)
            beyond = probabilities.cumsum(-1) - probabilities >= self.top_p  # the first is always kept
            logits = logits.masked_fill(beyond.gather(-1, places.argsort(-1)), float("-inf"))
        return logits


GREEDY = Sampling()
