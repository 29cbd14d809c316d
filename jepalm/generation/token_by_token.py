"""Autoregressive generation: one forward pass a token, with keys and values kept between passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jepalm.data.batches import Tokens, pad_rows
from jepalm.data.tokenizer import SPECIALS
from jepalm.generation.noise import Noise
from jepalm.model.causal import CausalModel
from jepalm.objective.causal import CausalObjective


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: 0 takes the most likely token; above, logits are divided by it and drawn from.
        top_k: keep only this many most likely tokens.
        top_p: keep only the most likely tokens that together reach this chance (arXiv 1904.09751).
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


@dataclass(frozen=True)
class Continuation:
    """What was written after each prompt.

    Attributes:
        rows: token ids of each text, without the end token.
        passes: forward passes, one for each token of the longest text.
    """

    rows: list[list[int]]
    passes: int


@torch.no_grad()
def generate(
    objective: CausalObjective,
    prompts: Tokens,
    *,
    length: int,
    end: int | None = None,
    sampling: Sampling = GREEDY,
    noise: Noise | None = None,
    written: int = 0,
) -> Continuation:
    """Write after each prompt, all prompts at once.

    A text that has filled the context goes on from its second half, read anew.

    Args:
        objective: the trained objective, in evaluation mode.
        prompts: (B, T) at least one token each, on the objective's device.
        length: most tokens to write.
        end: token that closes a text; None writes `length` tokens always.
        sampling: how tokens are chosen.
        noise: of the prompts as texts 0, 1 and so on; above temperature 0 it decides every draw.
        written: tokens that were written before the prompts end, where the noise goes on from.
    """
    model = objective.model
    never = [token for token in range(len(SPECIALS)) if token != end]
    texts = [row[:size] for row, size in zip(prompts.ids.tolist(), prompts.lengths.tolist(), strict=True)]
    starts = [len(text) for text in texts]
    done, numbers = [False] * len(texts), range(len(texts))
    last, cache = _read(model, texts, model.context_len, prompts.ids.device)
    passes = 1
    while True:
        logits = model.logits(last).float()  # (B, V)
        logits[:, never] = float("-inf")
        drawn = None if noise is None else noise.at(numbers, [written + passes - 1] * len(texts), 1)[:, 0]
        tokens = sampling.choose(logits, drawn)  # (B,)
        for row, token in enumerate(tokens.tolist()):
            done[row] = done[row] or token == end
            if not done[row]:
                texts[row].append(token)
        if passes == length or all(done):
            break
        if cache.filled == cache.room:
            last, cache = _read(model, texts, max(1, model.context_len // 2), prompts.ids.device)
        else:
            last = model.hidden(tokens[:, None], cache)[:, -1]  # (B, D)
        passes += 1
    return Continuation([text[start:] for text, start in zip(texts, starts, strict=True)], passes)


def _read(model: CausalModel, texts: list[list[int]], most: int, device: torch.device) -> tuple[Tensor, Any]:
    """Read the last `most` tokens of each text into a new cache; return what follows each, (B, D)."""
    recent = pad_rows([text[-most:] for text in texts], device)
    cache = model.new_cache(len(texts))
    hidden = model.hidden(recent.ids, cache)  # (B, T, D)
    cache.lengths = recent.lengths
    rows = torch.arange(len(texts), device=device)
    return hidden[rows, recent.lengths - 1], cache
