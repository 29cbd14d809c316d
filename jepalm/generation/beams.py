"""Beam search: the likeliest text of a light decoder, among the best few at each token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jepalm.generation.decoder_steps import Steps, as_index


def search(
    steps: Steps,
    text: Tensor,
    places: Tensor,
    lengths: Tensor,
    *,
    n_beams: int,
    excluded: Sequence[int],
    end: int,
) -> tuple[Tensor, Tensor]:
    """Write the likeliest of the texts that stay among the best few at every token.

    Texts are compared by the sum of their log-probabilities, the end token's included: a longer text has no
    other handicap than its own likelihood.

    Args:
        steps: the decoder over the embeddings of each text's beams, (B K, T, D'), those of one text together.
        text: (B K, L) what is read; what is written is put into it.
        places: (B K, T) where in it each position lies.
        lengths: (B,) tokens that a text has at most.
        n_beams: texts that are kept, K.
        excluded: tokens that are never written.
        end: token that ends a text, never its first.

    Returns:
        tokens (B, T) and the log-probability (B, T) of each; what stands behind the end token means nothing.
    """
    n_texts, length = len(lengths), places.shape[1]
    rows = torch.arange(len(text), device=text.device)  # (B K,)
    first = torch.arange(n_texts, device=text.device)[:, None] * n_beams  # (B, 1)
    before = torch.arange(1, steps.n_first + 1, device=text.device)  # (m,)
    totals = torch.full((n_texts, n_beams), float("-inf"), device=text.device)
    totals[:, 0] = 0.0  # at first all beams are the same text
    ids = torch.zeros_like(places)  # (B K, T)
    log_probs = torch.zeros(places.shape, device=text.device)  # (B K, T)
    done = torch.zeros(n_texts, n_beams, dtype=torch.bool, device=text.device)
    for place in range(length):
        at = places[:, place]
        back = before[: steps.n_previous] if place else before
        previous = as_index(text[rows[:, None], at[:, None] - back])  # (B K, m)
        logits = torch.as_tensor(steps.logits(place, previous))  # (B K, V)
        logits[:, excluded] = float("-inf")
        if place == 0:
            logits[:, end] = float("-inf")
        each = logits.log_softmax(-1).unflatten(0, (n_texts, n_beams))  # (B, K, V)
        over = done | (lengths <= place)[:, None]  # (B, K)
        each = each.masked_fill(over[..., None], float("-inf"))
        each[..., end] = torch.where(over, 0.0, each[..., end])  # an ended text goes on as it is
        n_tokens = each.shape[-1]
        totals, best = (totals[..., None] + each).flatten(1).topk(n_beams)  # (B, K)
        parents, tokens = best // n_tokens, best % n_tokens
        kept = (first + parents).flatten()  # (B K,)
        steps.select(as_index(kept))
        text, ids, log_probs = text[kept], ids[kept], log_probs[kept]
        ids[:, place] = tokens.flatten()
        log_probs[:, place] = each.flatten(1).gather(1, best).flatten()
        text[rows, at] = tokens.flatten()
        done = done.gather(1, parents) | (tokens == end)
        if bool(done.all()):
            break
    likeliest = first.squeeze(1) + totals.argmax(1)  # (B,)
    return ids[likeliest], log_probs[likeliest]
