"""What the embeddings are worth to an autoregressive decoder, whose cross-entropy is an exact likelihood.

With its embedding such a decoder need not read the tokens before a position, and with these it need not read
its embedding. So beside each cross-entropy stand two controls: the same tokens before each position, but
another pair's embedding, or the mean of all embeddings.
"""

from __future__ import annotations

from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import Tensor

from jepalm.data.batches import Batch
from jepalm.model.layout import Layout
from jepalm.objective.encoded import Views
from jepalm.objective.jepalm import JepalmObjective
from jepalm.objective.terms import cross_entropy

CONTROLLED = ("reconstruction", "generation")
CONTROLS = ("other_source", "mean_embedding")
RANGES = ((1, 8), (9, 16), (17, 32), (33, 64))
"""Positions whose cross-entropy is measured apart, counted from 1."""


def without_embeddings(objective: JepalmObjective, views: Views, batch: Batch) -> dict[str, float]:
    """Nats of all target tokens with embeddings that are not theirs, summed over positions.

    Returns:
        `..._ce_other_source`: with the embeddings of another pair of the batch at the same positions, their
        mean where its target is shorter; `..._ce_mean_embedding`: with their mean everywhere.
    """
    layout = views.target_layout
    labels = objective.labels(batch.target, layout)
    found = {}
    for name, embeddings in zip(CONTROLLED, (views.decodable, views.predicted), strict=True):
        mean = _mean(embeddings, layout)  # (D')
        other = torch.where(layout.mask[..., None], layout.pad(embeddings), mean).roll(1, 0)  # (B, T, D')
        for control, read in (("other_source", layout.pack(other)), ("mean_embedding", mean)):
            logits = objective.decode(read.expand_as(embeddings), layout, views.context)  # (..., V)
            found[f"{name}_ce_{control}"] = float(cross_entropy(logits, labels, 1))
    return found


def _mean(embeddings: Tensor, layout: Layout) -> Tensor:
    """Mean over all positions of all texts: packed or padded (..., D') to (D',)."""
    return (embeddings if layout.index is not None else embeddings[layout.mask]).mean(0)


class ByPosition:
    """Cross-entropy of the decoder on predicted embeddings, by position in the target."""

    def __init__(self) -> None:
        self.nats: defaultdict[tuple[int, int], float] = defaultdict(float)
        self.tokens: defaultdict[tuple[int, int], int] = defaultdict(int)

    def add(self, logits: Tensor, ids: Tensor, layout: Layout) -> None:
        """Count a batch: logits (N, V) and right tokens (N,) of the positions that hold text."""
        nats = F.cross_entropy(logits, ids, reduction="none")  # (N,)
        order = layout.mask.cumsum(1)[layout.mask]  # (N,) from 1
        for first, last in RANGES:
            inside = (order >= first) & (order <= last)
            self.nats[first, last] += float(nats[inside].sum())
            self.tokens[first, last] += int(inside.sum())

    def metrics(self) -> dict[str, float]:
        """`validation/generation_ce_FIRST_LAST` of each range that has positions, in nats a token."""
        return {
            f"validation/generation_ce_{first}_{last}": self.nats[first, last] / count
            for (first, last), count in self.tokens.items()
            if count
        }
