"""The texts of a JEPALM: how they are laid out, and what they are embedded as.

The first of the objective's three layers: on it stand what is predicted (`jepalm_predictions`) and the terms
(`jepalm`).
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from jepalm.config import ObjectiveConfig
from jepalm.data.batches import Batch, Tokens
from jepalm.errors import UsageError
from jepalm.model.conditioning import ActionView
from jepalm.model.jepalm import JEPALM
from jepalm.model.layout import Layout
from jepalm.objective.base import Objective
from jepalm.objective.spans import Reading, whole_text
from jepalm.objective.targets import TargetEncoder, normalised
from jepalm.objective.terms import IGNORE


class JepalmTexts(Objective):
    """Lays texts out and embeds them.

    Attributes:
        config: the objective's settings.
        packing: whether the positions of all texts lie behind one another, without padding.
        model: the parts.
        target_encoder: the average that makes the targets; None where the trained encoder does.
    """

    config: ObjectiveConfig
    packing: bool
    model: JEPALM
    target_encoder: TargetEncoder | None

    def encode_source(self, tokens: Tokens, states: Tensor | None = None) -> tuple[Tensor, Layout]:
        """Source embeddings (..., D) and their layout; without a graph where nothing learns from them.

        Args:
            tokens: the sources.
            states: (B, T, D) what the encoder's last layer would make of them, where it is known.
        """
        layout = self.source_layout(tokens)
        if states is not None:
            return self.model.encoder.embedded(layout.pack(states)), layout
        unread = self._detached and self.model.local is None
        with torch.no_grad() if unread else nullcontext():
            return self.model.encoder(tokens.ids, layout), layout

    def encode_action(self, tokens: Tokens | None) -> ActionView | None:
        """Embeddings (..., D) of actions and their layout; None where the model is conditioned on none.

        Raises:
            UsageError: the model is conditioned on actions, and there are none.
        """
        if not self.conditioned:
            return None
        if tokens is None:
            message = "this model predicts from a source and an action, and there is no action"
            raise UsageError(message, "give it transitions: state, action, next state")
        layout = self.layout(tokens)
        if self.model.action is not None:
            return self.model.action(tokens.ids, layout), layout
        with torch.no_grad() if self._detached else nullcontext():
            return self.model.encoder(tokens.ids, layout), layout

    @property
    def conditioned(self) -> bool:
        """Whether the predictor reads an action."""
        return self.model.config.action.conditioning != "none"

    @property
    def _detached(self) -> bool:
        """Whether predictor and length head teach the encoder nothing."""
        return self.config.embedding.detach_source and self.config.length.detach_source

    def embed(self, batch: Batch) -> tuple[Tensor, Layout, Layout]:
        """What the decoder reads of the targets, without noise (..., D'), their layout and its own."""
        layout = self.layout(batch.target)
        reading = self._reading(batch, layout)
        embeddings, _ = self.as_targets(self.model.encoder(reading.ids, reading.layout), reading.layout)
        return reading.pick(embeddings), layout, self._latents(layout)

    def embed_targets(self, tokens: Tokens) -> tuple[Tensor, Layout]:
        """What the predictor would have to match of texts (..., D'), and its layout."""
        layout = self.layout(tokens)
        if self.target_encoder is None:
            return self.as_targets(self.model.encoder(tokens.ids, layout), layout)
        latents = self._latents(layout)
        return self.normalise(self.target_encoder(tokens.ids, layout).mean, latents), latents

    def as_targets(self, embeddings: Tensor, layout: Layout) -> tuple[Tensor, Layout]:
        """The encoder's embeddings of any text (..., D) as they would be of a target (..., D'), laid out."""
        latents = self._latents(layout)
        return self.normalise(self.model.encoder.squeeze(embeddings, layout).mean, latents), latents

    def normalise(self, embeddings: Tensor, layout: Layout) -> Tensor:
        """Embeddings (..., D) in the normalisation of the targets."""
        return normalised(embeddings, layout, self.config.targets.normalisation)

    def layout(self, tokens: Tokens, *, ends_at_zero: bool = False) -> Layout:
        """Lay out one view of a batch; where its places are given, by them."""
        return Layout.of(
            tokens.lengths,
            tokens.ids.shape[1],
            packed=self.packing,
            ends_at_zero=ends_at_zero,
            places=tokens.places,
        )

    def source_layout(self, tokens: Tokens) -> Layout:
        """Lay out sources: before their targets, or aligned with them."""
        return self.layout(tokens, ends_at_zero=self._before)

    def lay_out_sources(self, lengths: Tensor, width: int) -> Layout:
        """Lay out sources of given lengths (B,), of which there are embeddings only."""
        return Layout.of(lengths, width, packed=self.packing, ends_at_zero=self._before)

    @property
    def _before(self) -> bool:
        return self.model.config.source_positions == "before"

    @staticmethod
    def labels(tokens: Tokens, layout: Layout) -> Tensor:
        """The right token of every position, packed as the layout says; `IGNORE` where there is no text."""
        if layout.index is not None:
            return layout.pack(tokens.ids)  # (N,)
        return tokens.ids.masked_fill(~layout.mask, IGNORE)  # (B, T)

    def _latents(self, layout: Layout) -> Layout:
        """The layout of the target embeddings of texts that are laid out so."""
        return layout.latents(self.model.config.latent.tokens)

    def _reading(self, batch: Batch, layout: Layout) -> Reading:
        """What an encoder reads to embed the targets, laid out so; hidden spans it reads in their text."""
        if batch.target.places is None:
            return Reading(batch.target.ids, layout)
        text = whole_text(batch.source, batch.target)
        return Reading(text.ids, self.layout(text), layout)
