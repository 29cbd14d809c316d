"""The two views of each pair in one packed row, for a causal model that embeds both in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jepalm.data.batches import Batch, Tokens
from jepalm.data.tokenizer import TextTokenizer
from jepalm.model.layout import at_least_float32

PADDING = 2
"""Segment of the padding behind both views."""


@dataclass(frozen=True)
class PackedViews:
    """Rows that hold the view that predicts, its predictor tokens, and the view that is predicted.

    Attributes:
        ids: (B, T) tokens.
        segments: (B, T) 0 for the view that predicts, 1 for the other, `PADDING` behind them.
        middle: (B,) where the second view starts.
        end: (B,) where the padding starts.
    """

    ids: Tensor
    segments: Tensor
    middle: Tensor
    end: Tensor

    def first(self, hidden: Tensor, pooling: str) -> Tensor:
        """Embedding of the first view from the states (B, T, D) of the rows, (B, D); see `pooled`."""
        return pooled(hidden, torch.zeros_like(self.middle), self.middle, pooling)

    def second(self, hidden: Tensor, pooling: str) -> Tensor:
        """Embedding of the second view from the states (B, T, D) of the rows, (B, D); see `pooled`."""
        return pooled(hidden, self.middle, self.end, pooling)


def pooled(hidden: Tensor, start: Tensor, end: Tensor, pooling: str) -> Tensor:
    """States of the tokens of a view as one embedding, (B, T, D) to (B, D).

    Args:
        hidden: states of the rows.
        start: (B,) the view's first place.
        end: (B,) the place behind its last.
        pooling: "last", the state at the last token; or "mean" over the tokens, predictor tokens too.
    """
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), end - 1]
    places = torch.arange(hidden.shape[1], device=hidden.device)
    inside = (places >= start[:, None]) & (places < end[:, None])  # (B, T)
    return (at_least_float32(hidden) * inside[..., None]).sum(1) / (end - start)[:, None]


def views_of(batch: Batch, *, reverse: bool = False) -> tuple[list[Tokens], list[Tokens]]:
    """The texts of the view that predicts, and of the one predicted; an action goes with the source."""
    read = [batch.source, *([batch.action] if batch.action is not None else [])]
    return ([batch.target], read) if reverse else (read, [batch.target])


def pack_views(
    first: list[Tokens], second: list[Tokens], *, first_token: int = 0, n_tokens: int = 0
) -> PackedViews:
    """Pack the views of each pair into one row.

    Args:
        first: texts of the view that predicts, which has at least one token.
        second: texts of the other; without any, the rows hold the first view alone.
        first_token: id of the first predictor token; the others follow.
        n_tokens: predictor tokens behind the first view.
    """
    lengths = first[0].lengths
    tokens = torch.arange(first_token, first_token + n_tokens, device=lengths.device)
    predictor = Tokens(tokens.expand(len(lengths), -1), torch.full_like(lengths, n_tokens))
    ids, end = joined([*first, predictor, *second])  # (B, T), (B,)
    middle = end - sum((part.lengths for part in second), torch.zeros_like(end))  # (B,)
    places = torch.arange(ids.shape[1], device=ids.device)
    segments = (places >= middle[:, None]).long()  # (B, T)
    return PackedViews(ids, segments.masked_fill(places >= end[:, None], PADDING), middle, end)


def closed(texts: Tokens) -> Tokens:
    """Texts with the end token behind each, which tells a causal model where a part of a pair ends."""
    none = Tokens(texts.ids[:, :0], torch.zeros_like(texts.lengths))
    return Tokens(*joined([texts, none], torch.ones_like(texts.lengths, dtype=torch.bool)))


def prompt_of(parts: list[Tokens]) -> Tokens:
    """What a causal model reads before the target of a pair: each part, closed."""
    return Tokens(*joined([closed(part) for part in parts]))


def prompt_row(*parts: Sequence[int]) -> list[int]:
    """The same as `prompt_of` for one pair, in token ids."""
    return [token for part in parts for token in (*part, TextTokenizer.END)]


def joined(parts: list[Tokens], whole: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Texts behind one another without padding between.

    Args:
        parts: padded texts of the same B pairs.
        whole: (B,) bool, whether the end token follows; None: nowhere.

    Returns:
        (B, T) ids, as wide as all parts together and, with `whole`, one column more; and (B,) lengths.
    """
    first = parts[0]
    width = sum(part.ids.shape[1] for part in parts) + (whole is not None)
    ids = torch.full((len(first.ids), width), TextTokenizer.PAD, device=first.ids.device)
    end = torch.zeros_like(first.lengths)  # (B,)
    for part in parts:  # what a part's padding writes, the next part writes over
        places = end[:, None] + torch.arange(part.ids.shape[1], device=ids.device)  # (B, T)
        ids.scatter_(1, places, part.ids)
        end = end + part.lengths
    if whole is None:
        return ids, end
    ids.scatter_(1, end[:, None], torch.where(whole, TextTokenizer.END, TextTokenizer.PAD)[:, None])
    return ids, end + whole
