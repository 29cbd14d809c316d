"""What a JEPALM predicts: embeddings and lengths of targets from their sources, and all views of a batch.

The second of the objective's three layers, between texts (`jepalm_texts`) and terms (`jepalm`).
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jepalm.data.batches import Batch, Tokens
from jepalm.model.conditioning import ActionView, Conditioning
from jepalm.model.latents import Posterior
from jepalm.model.layout import Layout
from jepalm.model.noise import draw_gumbel
from jepalm.model.queries import Known
from jepalm.objective.autoencoder import disturb, drop_tokens, sample
from jepalm.objective.jepalm_texts import JepalmTexts
from jepalm.objective.lengths import as_lengths, expected_length, likeliest_lengths
from jepalm.objective.spans import Reading, picked
from jepalm.objective.unmasking import draw_unmasked, hidden_weights

PREDICTED = ("embedding", "generation", "intermediate_logits")
"""Terms that are of predicted embeddings."""
OF_SOURCES = (*PREDICTED, "local", "length")
"""Terms that are of what a source says."""


@dataclass(frozen=True)
class Views:
    """Everything the terms and the measurements read, packed or padded as the layouts say.

    A target has one embedding a position, or one a latent where the model has a bottleneck.

    Attributes:
        source: source embeddings (..., D).
        target: target embeddings (..., D'), what the predictor must match.
        encoded: embeddings of the target (..., D') by the trained encoder.
        decodable: those that the decoder reads (..., D'), in training with the autoencoder's noise.
        posterior: what `decodable` was made from.
        predicted: predicted embeddings (..., D'); of a predictor that takes noise, where none is given, one
            draw in training and that of noise 0 in evaluation.
        lengths: predicted lengths (B,), of a classification their expectation; None without a length head.
        source_layout: positions of the sources.
        target_layout: positions of the targets.
        embedding_layout: positions of the targets' embeddings.
        length_logits: (B, L + 1) of a length classification, else None.
        local_logits: (..., V) of the local head at the target's places, else None.
        weights: (...) of the target's positions in the terms of predictions, where tokens were unmasked.
        intermediate logits: logits (..., V) of each guess of the predictor's layers, where they guess.
    """

    source: Tensor
    target: Tensor
    encoded: Tensor
    decodable: Tensor
    posterior: Posterior
    predicted: Tensor
    lengths: Tensor | None
    source_layout: Layout
    target_layout: Layout
    embedding_layout: Layout
    length_logits: Tensor | None = None
    local_logits: Tensor | None = None
    weights: Tensor | None = None
    intermediate_logits: tuple[Tensor, ...] = ()


class JepalmPredictions(JepalmTexts):
    """Predicts the targets' embeddings and lengths.

    Attributes:
        vocab_size: tokens, V.
        unmasking: scalar, what the shares of unmasked tokens are multiplied by in this step.
    """

    vocab_size: int
    unmasking: Tensor

    def encode_and_predict(
        self,
        batch: Batch,
        terms: Collection[str] | None = None,
        noise: Tensor | None = None,
        states: Tensor | None = None,
    ) -> Views:
        """Encode both views and predict the target's embeddings from the source's.

        Args:
            batch: the pairs.
            terms: what none of these terms reads is not computed, and left empty; None computes all.
            noise: (B, T, V) Gumbel noise that says the targets; not looked at by a predictor that reads none.
            states: see `encode_source`.
        """
        target_layout = self.layout(batch.target)
        reading, embedding_layout = self._reading(batch, target_layout), self._latents(target_layout)
        encoded = decodable = target = source = predicted = torch.empty(0)
        posterior = whole = Posterior(encoded)
        known = weights = None
        shared = self.target_encoder is None
        read = any_of(terms, "reconstruction", "kl")
        if read or any_of(terms, "regularizer", *(["embedding"] if shared else [])):
            encoded, decodable, posterior, whole = self._encode_target(reading, embedding_layout, noisy=read)
            target = encoded  # (..., D')
        if self.target_encoder is not None and any_of(terms, "embedding"):
            whole = self.target_encoder(reading.ids, reading.layout)
            target = reading.pick(self.normalise(whole.mean, self._latents(reading.layout)))  # (..., D')
        if any_of(terms, *OF_SOURCES):
            source, source_layout = self.encode_source(batch.source, states)
        else:
            source_layout = self.source_layout(batch.source)
        action = self.encode_action(batch.action) if any_of(terms, *PREDICTED, "length") else None
        intermediate_logits: list[Tensor] = []
        if any_of(terms, *PREDICTED):
            known = self._unmask(batch.target, target_layout)
            conditioning = Conditioning(action, known, intermediate_logits=intermediate_logits)
            drawn = noise if noise is not None else self.draw_noise(target_layout, float(self.training))
            conditioning = replace(conditioning, noise=drawn)
            predicted = self.predict(source, source_layout, target_layout, conditioning)
        if (
            known is not None and self.model.predictor.intermediate_logits is None
        ):  # which tells none its own token
            weights = target_layout.pack(hidden_weights(target_layout.mask, known.unmasked))  # (...)
        found = self._length_output(source, source_layout, action) if any_of(terms, "length") else None
        local = self._local_logits(source, source_layout, target_layout) if any_of(terms, "local") else None
        return Views(
            source,
            target,
            encoded,
            decodable,
            posterior,
            predicted,
            self._expected_lengths(found),
            source_layout,
            target_layout,
            embedding_layout,
            found if self.config.length.kind == "classification" else None,
            local,
            weights,
            tuple(intermediate_logits),
        )

    def predict(
        self,
        source: Tensor,
        source_layout: Layout,
        target_layout: Layout,
        conditioning: Conditioning | None = None,
    ) -> Tensor:
        """Predicted embeddings (..., D') of a target laid out so.

        Args:
            source: source embeddings (..., D).
            source_layout: positions of the source.
            target_layout: positions to predict.
            conditioning: what the predictor is told beside; None is nothing.

        Raises:
            UsageError: the model is conditioned on actions, and there is none.
        """
        conditioning = conditioning or Conditioning()
        action = conditioning.action if conditioning.action is not None else self.encode_action(None)
        if self.config.embedding.detach_source:
            source = source.detach()
            if action is not None and self.model.action is None:
                action = action[0].detach(), action[1]
        conditioning = replace(conditioning, action=action)
        predicted: Tensor = self.model.predictor(
            self._latents(target_layout), source, source_layout, conditioning
        )
        return predicted

    def draw_noise(
        self, target_layout: Layout, scale: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor | None:
        """Draw noise of the kind that the predictor reads, times a scale; None where it reads none, and at 0.

        Args:
            target_layout: positions to predict.
            scale: what the noise is multiplied by.
            generator: draws; torch's own when None.
        """
        own = self.model.config.predictor
        if own.noise == "none" or scale == 0:
            return None
        shape = (*target_layout.mask.shape, self.vocab_size)
        return scale * draw_gumbel(shape, target_layout.mask.device, generator)  # (B, T, V)

    @property
    def reads_gumbel(self) -> bool:
        """Whether the predictor reads Gumbel noise."""
        return self.model.config.predictor.noise == "gumbel"

    def predict_lengths(
        self, source: Tensor, layout: Layout, action: ActionView | None = None
    ) -> Tensor | None:
        """Predicted lengths (B,), of a classification their expectation; None without a length head."""
        return self._expected_lengths(self._length_output(source, layout, action))

    def likely_lengths(
        self, source: Tensor, layout: Layout, n: int = 1, action: ActionView | None = None
    ) -> Tensor | None:
        """The n most likely target lengths (B, n) from 1 on, the likeliest first; None without a head."""
        classified = self.config.length.kind == "classification"
        give = self._length_output if classified else self.predict_lengths
        found = give(source, layout, action)
        return None if found is None else likeliest_lengths(found, self.model.config.target_len, n)

    def _unmask(self, target: Tokens, layout: Layout) -> Known | None:
        """What the predictor is told of the targets: something in training alone, where it can read it."""
        share = self.config.unmasking.share_to if self.model.config.predictor.unmasked else 0.0
        if not self.training or share == 0:
            return None
        return Known(target.ids, draw_unmasked(layout.mask, self.config.unmasking, self.unmasking))

    def _encode_target(
        self, reading: Reading, latents: Layout, *, noisy: bool
    ) -> tuple[Tensor, Tensor, Posterior, Posterior]:
        """Embeddings (..., D') of the target, those the decoder reads, and what these were drawn from.

        These two are without noise in evaluation and where nothing reads them. With hidden tokens the
        encoder runs twice: the decoder reads what is left of the target, the predictor must match the whole.
        The last is the posterior of the whole, of all that was read, before its normalisation.
        """
        encoder, noise = self.model.encoder, self.config.autoencoder
        read = self._latents(reading.layout)
        noisy = noisy and self.training
        hidden = noisy and noise.token_dropout > 0
        seen = drop_tokens(reading.ids, noise.token_dropout) if hidden else reading.ids
        posterior: Posterior = encoder.posterior(
            seen, reading.layout
        )  # before the one without a graph: see below
        whole = posterior
        if hidden:
            unread = self.config.embedding.detach_target and self.regularizer is None
            with torch.no_grad() if unread else nullcontext():  # autocast keeps the first pass's cast weights
                whole = encoder.posterior(reading.ids, reading.layout)
        encoded = reading.pick(self.normalise(whole.mean, read))
        picked_posterior = posterior.map(reading.pick)
        if not noisy:
            return encoded, encoded, picked_posterior, whole
        drawn = sample(posterior, read)
        same = drawn is posterior.mean and not hidden
        decodable = encoded if same else reading.pick(self.normalise(drawn, read))
        return encoded, disturb(decodable, latents, noise), picked_posterior, whole

    def _local_logits(self, source: Tensor, layout: Layout, places: Layout) -> Tensor | None:
        """What the local head makes of the source's embeddings at the target's places, (..., V)."""
        if self.model.local is None:
            return None
        found: Tensor = self.model.local(picked(source, layout, places))
        return found

    def _length_output(self, source: Tensor, layout: Layout, action: ActionView | None) -> Tensor | None:
        """Lengths (B,), or logits (B, L + 1) of all lengths from 0 on; None without a length head."""
        if self.model.length is None:
            return None
        if self.config.length.detach_source:
            source = source.detach()
            action = action and (action[0].detach(), action[1])
        found: Tensor = self.model.length(source, layout, action)
        return as_lengths(found, layout.mask.sum(1), self.model.config, self.config.length)

    def _expected_lengths(self, found: Tensor | None) -> Tensor | None:
        if found is None or self.config.length.kind != "classification":
            return found
        return expected_length(found)


def any_of(terms: Collection[str] | None, *names: str) -> bool:
    """Whether one of these terms is among some; None is all terms."""
    return terms is None or any(name in terms for name in names)
