"""What an autoregressive decoder reads beside embeddings: the tokens before each position, teacher-forced."""

from __future__ import annotations

import torch
from torch import Tensor

from jepalm.data.batches import Tokens
from jepalm.data.ngram_expert import NGramExpert
from jepalm.data.tokenizer import TextTokenizer
from jepalm.objective.spans import whole_text


def read_before(
    source: Tokens, target: Tokens, n: int, expert: NGramExpert | None
) -> tuple[Tensor, Tensor | None]:
    """The n tokens before each target position (B, T, n), and what an expert says after them, (B, T, V)."""
    if expert is None:
        return previous_tokens(source, target, n), None
    previous = previous_tokens(source, target, max(n, expert.reach))
    return previous[..., :n], expert.log_probs(previous, target.in_stream)


def previous_tokens(source: Tokens, target: Tokens, n: int) -> Tensor:
    """The n tokens before each target position, the nearest first: (B, T, n).

    Before a target's first token stand the last ones of its source, before these padding. Before a hidden
    token stands the text with all that was hidden in it, so that each gap is read from left to right.

    Args:
        source: the sources.
        target: their targets.
        n: how many tokens.
    """
    if target.places is not None:
        text, places = whole_text(source, target).ids, target.places  # (B, S), (B, T)
    else:
        text = torch.cat((last_tokens(source, n).flip(1), target.ids), 1)  # (B, n + T)
        steps = torch.arange(target.ids.shape[1], device=text.device)
        places = n + steps.expand_as(target.ids)  # (B, T)
    before = places[..., None] - 1 - torch.arange(n, device=text.device)  # (B, T, n)
    found = text.gather(1, before.clamp(min=0).flatten(1)).view(before.shape)
    return found.masked_fill(before < 0, TextTokenizer.PAD)


def last_tokens(texts: Tokens, n: int) -> Tensor:
    """The last n tokens of each text, the last first: (B, n); padding where a text is shorter."""
    places = texts.lengths[:, None] - 1 - torch.arange(n, device=texts.ids.device)  # (B, n)
    return texts.ids.gather(1, places.clamp(min=0)).masked_fill(places < 0, TextTokenizer.PAD)
