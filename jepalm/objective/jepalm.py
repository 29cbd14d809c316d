"""The JEPALM objective: reconstruction, embedding, generation and length terms of a batch of pairs.

Where gradients flow decides what is learned. In the reference arrangement the encoder learns by
reconstruction alone: the predictor and the length head read detached source embeddings and the
targets carry a stop-gradient.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jepalm.config import ModelConfig, ObjectiveConfig
from jepalm.data.batches import Batch, Tokens
from jepalm.model.jepalm import JEPALM
from jepalm.model.layers import Layout
from jepalm.objective.terms import IGNORE, Losses, cross_entropy, length_error, squared_distance
from jepalm.objective.weighting import build_weighting


@dataclass(frozen=True)
class Views:
    """Everything the terms and the measurements read, packed or padded as the layouts say.

    Attributes:
        source: source embeddings (..., D).
        target: target embeddings (..., D).
        predicted: predicted embeddings (..., D).
        lengths: predicted lengths (B,), or None without a length head.
        source_layout: positions of the sources.
        target_layout: positions of the targets.
    """

    source: Tensor
    target: Tensor
    predicted: Tensor
    lengths: Tensor | None
    source_layout: Layout
    target_layout: Layout


class JepalmObjective(nn.Module):
    """Owns the JEPALM and turns a batch into loss terms."""

    def __init__(
        self,
        model: ModelConfig,
        objective: ObjectiveConfig,
        vocab_size: int,
        *,
        packing: bool = False,
        attention: str = "auto",
    ) -> None:
        super().__init__()
        self.config = objective
        self.packing = packing
        self.weights = {
            "reconstruction": objective.reconstruction.weight,
            "embedding": objective.embedding.weight,
            "generation": objective.generation.weight,
            "length": objective.length.weight,
        }
        has_length = objective.length.kind != "none"
        self.model = JEPALM(model, vocab_size, length_head=has_length, attention=attention)
        self.weighting = build_weighting(
            objective,
            {name: self.weights[name] for name in self.term_names},
            cross_entropies=frozenset({"reconstruction", "generation"}),
        )

    @property
    def term_names(self) -> list[str]:
        """The terms that `forward` returns, in its order."""
        names = ["reconstruction", "embedding"]
        if self.config.generation.weight > 0:
            names.append("generation")
        if self.model.length is not None:
            names.append("length")
        return names

    def forward(self, batch: Batch) -> Losses:
        """Loss terms of one micro batch, each over the size of its global batch."""
        views = self.encode_and_predict(batch)
        layout, n_tokens = views.target_layout, batch.n_target_tokens
        labels = self.labels(batch.target, layout)
        distance = squared_distance(views.predicted, self._as_target(views.target))  # (...)
        terms = {
            "reconstruction": cross_entropy(self.model.decoder(views.target, layout), labels, n_tokens),
            "embedding": layout.total(distance) / n_tokens,
        }
        if self.config.generation.weight > 0:
            terms["generation"] = cross_entropy(self.model.decoder(views.predicted, layout), labels, n_tokens)
        if views.lengths is not None:
            terms["length"] = length_error(views.lengths, batch.target.lengths, batch.n_pairs)
        return self.weighting(terms, len(batch.target.lengths) / batch.n_pairs)

    def after_step(self, terms: Tensor | None = None, norms: Tensor | None = None) -> None:
        """What changes once an optimizer step, by no gradient; see `Weighting.after_step`."""
        self.weighting.after_step(terms, norms)

    def encode_and_predict(self, batch: Batch) -> Views:
        """Encode both views and predict the target's embeddings from the source's."""
        target_layout = self.layout(batch.target)
        target = self.model.encoder(batch.target.ids, target_layout)  # (..., D)
        source, source_layout = self.encode_source(batch.source)
        predicted = self.predict(source, source_layout, target_layout)
        return Views(
            source,
            target,
            predicted,
            self.predict_lengths(source, source_layout),
            source_layout,
            target_layout,
        )

    def encode_source(self, tokens: Tokens) -> tuple[Tensor, Layout]:
        """Source embeddings (..., D) and their layout; without a graph where nothing learns from them."""
        layout = self.layout(tokens, ends_at_zero=True)
        unread = self.config.embedding.detach_source and self.config.length.detach_source
        with torch.no_grad() if unread else nullcontext():
            return self.model.encoder(tokens.ids, layout), layout

    def predict(self, source: Tensor, source_layout: Layout, target_layout: Layout) -> Tensor:
        """Predicted embeddings (..., D) of the target's positions."""
        if self.config.embedding.detach_source:
            source = source.detach()
        predicted: Tensor = self.model.predictor(target_layout, source, source_layout)
        return predicted

    def predict_lengths(self, source: Tensor, layout: Layout) -> Tensor | None:
        """Predicted lengths (B,), or None without a length head."""
        if self.model.length is None:
            return None
        lengths: Tensor = self.model.length(
            source.detach() if self.config.length.detach_source else source, layout
        )
        return lengths

    def layout(self, tokens: Tokens, *, ends_at_zero: bool = False) -> Layout:
        """Lay out one view of a batch."""
        return Layout.of(tokens.lengths, tokens.ids.shape[1], packed=self.packing, ends_at_zero=ends_at_zero)

    @staticmethod
    def labels(tokens: Tokens, layout: Layout) -> Tensor:
        """The right token of every position, packed as the layout says; `IGNORE` where there is no text."""
        if layout.index is not None:
            return layout.pack(tokens.ids)  # (N,)
        return tokens.ids.masked_fill(~layout.mask, IGNORE)  # (B, T)

    def _as_target(self, target: Tensor) -> Tensor:
        return target.detach() if self.config.embedding.detach_target else target
