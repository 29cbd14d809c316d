"""The causal objective: the cross-entropy of each next token.

A pair is read as one text, source (then action) then target, that closes with the end token; a
window of a stream has no end. Further terms of the same forward pass join in `forward`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from jepalm.config import ModelConfig, ObjectiveConfig
from jepalm.data.batches import Batch, Tokens
from jepalm.data.tokenizer import TextTokenizer
from jepalm.model.backbone import Backbone
from jepalm.model.causal_lm import CausalLM
from jepalm.model.causal_model import CausalModel
from jepalm.objective.base import Objective
from jepalm.objective.terms import IGNORE, Losses, cross_entropy
from jepalm.objective.weighting import build_weighting


@dataclass(frozen=True)
class Sequences:
    """A batch of pairs as the causal model reads it.

    Attributes:
        ids: (B, T) tokens read, left-aligned.
        labels: (B, T) the token after each; `IGNORE` where none is learned.
        n_labels: labels of the global batch.
    """

    ids: Tensor
    labels: Tensor
    n_labels: int


class CausalObjective(Objective):
    """Owns the CausalLM, or a backbone in its place, and turns a batch into loss terms."""

    model: CausalModel

    def __init__(
        self,
        model: ModelConfig,
        objective: ObjectiveConfig,
        vocab_size: int,
        *,
        attention: str = "auto",
        half: bool = False,
    ) -> None:
        super().__init__()
        self.config = objective
        self.weights = {"next_token": objective.next_token.weight}
        self.weighting = build_weighting(objective, self.weights, cross_entropies=frozenset({"next_token"}))
        build = CausalLM if model.backbone is None else partial(Backbone, half=half)
        self.model = build(model, vocab_size, attention)

    @property
    def all_terms(self) -> list[str]:
        """The terms that are on, in the order of `forward`."""
        return ["next_token"]

    def parameters_by_part(self) -> dict[str, int]:
        """Number of parameters of each part that can learn, and of the backbone under adapters."""
        frozen = {"frozen": self.model.n_frozen} if self.model.n_frozen else {}
        return self.model.parameters_by_part() | frozen

    def forward(self, batch: Batch) -> Losses:
        """Terms that count of one micro batch, each over the size of its global batch."""
        read = self.sequences(batch)
        hidden = self.model.hidden(read.ids)  # (B, T, D)
        terms = {"next_token": cross_entropy(self.model.logits(hidden), read.labels, read.n_labels)}
        return self.weighting(terms, len(batch.target.lengths) / batch.n_pairs)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """All of the model's once there are terms to compare."""
        return list(self.model.parameters()) if len(self.term_names) > 1 else []

    def sequences(self, batch: Batch) -> Sequences:
        """Join each pair to one text, with the label of every position."""
        learn_all = self.config.next_token.loss_on == "all"
        if batch.whole is None:  # windows: every text is full
            ids = torch.cat((batch.source.ids, batch.target.ids), dim=1)  # (B, T + 1)
            n_source = batch.n_read_tokens - batch.n_pairs if learn_all else 0
            first = 1 if learn_all else batch.source.ids.shape[1]
            labels = ids.clone()
            labels[:, :first] = IGNORE
            return Sequences(ids[:, :-1], labels[:, 1:], n_source + batch.n_target_tokens)
        parts = [batch.source, *([batch.action] if batch.action is not None else []), batch.target]
        ids, lengths = joined(parts, batch.whole)  # (B, T + 1), (B,)
        read = torch.stack([part.lengths for part in parts[:-1]]).sum(0)  # (B,)
        places = torch.arange(ids.shape[1], device=ids.device)
        start = torch.ones_like(read) if learn_all else read  # (B,)
        learned = (places >= start[:, None]) & (places < lengths[:, None])  # (B, T + 1)
        n_labels = batch.n_target_tokens + batch.n_whole
        if learn_all:
            n_labels += batch.n_read_tokens - batch.n_pairs
        return Sequences(ids[:, :-1], ids.masked_fill(~learned, IGNORE)[:, 1:], n_labels)


def joined(parts: list[Tokens], whole: Tensor) -> tuple[Tensor, Tensor]:
    """Texts behind one another without padding between, closed by the end token.

    Args:
        parts: padded texts of the same B pairs.
        whole: (B,) bool, whether the end token follows.

    Returns:
        (B, T) ids, one column wider than all parts together, and (B,) lengths.
    """
    width = sum(part.ids.shape[1] for part in parts) + 1
    first = parts[0]
    ids = torch.full((len(whole), width), TextTokenizer.PAD, device=first.ids.device)
    end = torch.zeros_like(first.lengths)  # (B,)
    for part in parts:  # what a part's padding writes, the next part writes over
        places = end[:, None] + torch.arange(part.ids.shape[1], device=ids.device)  # (B, T)
        ids.scatter_(1, places, part.ids)
        end = end + part.lengths
    ids.scatter_(1, end[:, None], torch.where(whole, TextTokenizer.END, TextTokenizer.PAD)[:, None])
    return ids, end + whole
