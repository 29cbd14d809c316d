"""The JEPALM objective: encode, predict, decode, one loss term after the other.

Where gradients flow decides what is learned. In the reference arrangement the encoder learns by
reconstruction alone: the predictor and the length head read detached source embeddings and the
targets carry a stop-gradient. An action that the same encoder reads is detached where the source is;
an encoder of its own has nothing else to learn from and never is, but for the length head.

The decoder learns to read the trained encoder's embeddings of the target, whoever makes the targets, in
the targets' normalisation: what the predictor learns to write is then what the decoder reads, up to
the lag of an averaged target encoder, and up to the autoencoder's noise in training.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from jepalm.config import ModelConfig, ObjectiveConfig
from jepalm.data.batches import Batch, Tokens
from jepalm.data.ngram_expert import NGramExpert
from jepalm.errors import UsageError
from jepalm.model.causal import CausalModel
from jepalm.model.conditioning import ActionView, Conditioning, Known
from jepalm.model.decoder import DecoderContext
from jepalm.model.jepalm import JEPALM
from jepalm.model.layout import Layout
from jepalm.model.noise import draw_gumbel
from jepalm.model.predictor import Prediction
from jepalm.objective.autoencoder import disturb, divergence, drop_tokens, sample
from jepalm.objective.base import Objective, Scope
from jepalm.objective.context import read_before
from jepalm.objective.coupling import Coupling, Teacher, begin_as_teacher, encodes_as_teacher
from jepalm.objective.encoded import EncodedTarget, Views
from jepalm.objective.language import decoder_lm, encoder_lm
from jepalm.objective.lengths import as_lengths, expected_length, length_bins, likeliest_lengths
from jepalm.objective.regularizers import build_regularizer
from jepalm.objective.spans import picked, whole_text
from jepalm.objective.targets import TargetEncoder, normalised, target_momentum
from jepalm.objective.terms import (
    IGNORE,
    Losses,
    cosine_distance,
    cross_entropy,
    length_error,
    smooth_l1_distance,
    squared_distance,
)
from jepalm.objective.unmasking import draw_unmasked, hidden_weights, share_left

OF_TARGETS = ("reconstruction", "kl", "regularizer")
"""Terms of the trained encoder's embeddings of targets."""
OF_PREDICTIONS = ("embedding", "generation", "intermediate_logits")
"""Terms of predicted embeddings."""
OF_SOURCES = (*OF_PREDICTIONS, "local", "encoder_lm", "length")
"""Terms that read the source."""


class JepalmObjective(Objective):
    """Owns the JEPALM and turns a batch into loss terms.

    Attributes:
        config: the objective's settings.
        vocab_size: tokens, V.
        reads_context: whether the decoder reads the tokens before each position.
        target_encoder: the average that makes the targets; None where the trained encoder does.
        unmasking: scalar, what the shares of unmasked tokens are multiplied by in this step.
        coupling: the teacher that couples texts to noise, while there is one; see `couple`.
        expert: counts of the training text that the decoder reads, with `model.decoder.ngram`.
    """

    model: JEPALM
    optional_parts = frozenset({"local", "length", "action"})
    unmasking: Tensor
    coupling: Coupling | None = None
    expert: NGramExpert | None = None
    _encodes_as_teacher: bool | None = None
    """Whether the encoder is frozen with the teacher's layers; None: to be found out."""

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
        self.config, self.vocab_size, self.packing = objective, vocab_size, packing
        self.reads_context = model.decoder.autoregressive
        self.model = JEPALM(
            model,
            vocab_size,
            length_head=objective.length.kind != "none",
            length_bins=length_bins(model, objective.length),
            local_head=objective.local.weight > 0,
            variational=objective.kl.weight > 0,
            attention=attention,
        )
        self.regularizer = build_regularizer(objective.regularizer, model.target_dim)
        averaged = objective.targets.encoder == "ema"
        self.target_encoder = TargetEncoder(self.model.encoder) if averaged else None
        self.register_buffer("unmasking", torch.ones(()), persistent=False)
        self.set_terms("jepalm", objective)

    def forward(self, batch: Batch) -> Losses:
        """Terms that count of one micro batch, each over the size of its global batch."""
        model, noise, states = self.model, None, None
        if self.coupling is not None and self.training:
            coupled = self.coupling.couple(batch)
            batch, noise = coupled.batch, coupled.noise
            states = coupled.states if self._encodes_as_teacher else None
        layout = self.layout(batch.target)
        embedding_layout = self.embedding_layout(layout)
        labels, n_tokens = self.labels(batch.target, layout), batch.n_target_tokens
        n_embeddings = n_tokens if embedding_layout is layout else batch.n_target_latents

        # Encode and predict what the terms that count need.
        on, shared = self.counted, self.target_encoder is None
        if any(name in on for name in OF_TARGETS) or (shared and "embedding" in on):
            noisy = self.training and ("reconstruction" in on or "kl" in on)
            encoded = self.encode_target(batch, layout, noisy=noisy)
        if "embedding" in on:
            target = encoded.embeddings if shared else self.average_target(batch, layout)
        context = None
        decodes = self.reads_context and ("reconstruction" in on or "generation" in on)
        if decodes or any(name in on for name in OF_SOURCES):
            source, source_layout = self.encode_source(batch.source, states)
        if decodes:
            context = self.decoder_context(batch, source, source_layout)
        if any(name in on for name in OF_SOURCES):
            action = self.encode_action(batch.action)
        if any(name in on for name in OF_PREDICTIONS):
            known = weights = None
            if self.training and model.config.predictor.unmasked and self.config.unmasking.share_to > 0:
                unmasked = draw_unmasked(layout.mask, self.config.unmasking, self.unmasking)  # (B, T)
                known = Known(batch.target.ids, unmasked)
                if model.predictor.unmasked is not None:  # else no position is fed its own token: all count
                    weights = layout.pack(hidden_weights(layout.mask, unmasked))  # (...)
            if self.reads_gumbel and self.training and noise is None:
                noise = self.draw_noise(layout)
            given = Conditioning(action, known, noise)
            prediction = self.predict_with_logits(source, source_layout, layout, given)

        terms: dict[str, Tensor] = {}
        if "reconstruction" in on:
            logits = self.decode(encoded.decodable, layout, context)  # (..., V)
            terms["reconstruction"] = cross_entropy(logits, labels, n_tokens)
        if "embedding" in on:
            target = target.detach() if self.config.embedding.detach_target else target
            distance = self.distance(prediction.embeddings, target)  # (...)
            distance = distance if weights is None else distance * weights
            terms["embedding"] = embedding_layout.total(distance) / n_embeddings
        if "generation" in on:
            logits = self.decode_predicted(prediction.embeddings, layout, context)  # (..., V)
            terms["generation"] = cross_entropy(logits, labels, n_tokens, weights)
        if "intermediate_logits" in on:
            each = [cross_entropy(x, labels, n_tokens, weights) for x in prediction.intermediate_logits]
            terms["intermediate_logits"] = torch.stack(each).mean()
        if "local" in on:
            terms["local"] = cross_entropy(self.local_logits(source, source_layout, layout), labels, n_tokens)
        if "encoder_lm" in on:
            terms["encoder_lm"] = encoder_lm(self.model, batch, source, source_layout)
        if "decoder_lm" in on:
            terms["decoder_lm"] = decoder_lm(self.model, batch, packing=self.packing, expert=self.expert)
        if "length" in on:
            found = self._length_output(source, source_layout, action)  # (B,) or (B, L + 1)
            cost = cross_entropy if self._classifies_length else length_error
            terms["length"] = cost(found, batch.target.lengths, batch.n_pairs)
        if "kl" in on:
            nats = divergence(encoded.posterior, self.config.kl.floor)  # (...)
            terms["kl"] = embedding_layout.total(nats) / n_embeddings
        share = len(batch.target.lengths) / batch.n_pairs
        if self.regularizer is not None and "regularizer" in on:
            terms["regularizer"] = share * self.regularizer(encoded.embeddings, embedding_layout)
        return self.weighting(terms, share)

    def before_step(self, step: int) -> None:
        """Draw what is random once an optimizer step, the same on all devices; `step` counts from 0."""
        self.unmasking.fill_(share_left(self.config.unmasking, step))
        if self._encodes_as_teacher is None:
            coupling = None if self.learns("encoder") else self.coupling
            same = coupling is not None and encodes_as_teacher(self.model, coupling.teacher.model)
            self._encodes_as_teacher = same
        if self.regularizer is not None:
            self.regularizer.before_step(step)

    def enter(self, scope: Scope) -> None:
        """Take the terms and parts of a scope; see the base class."""
        super().enter(scope)
        self._encodes_as_teacher = None

    def after_step(self, step: int, steps: int, terms: Tensor | None = None) -> None:
        """Move the target encoder after the trained one; see the base class."""
        if self.target_encoder is not None and self.learns("encoder"):
            momentum = target_momentum(step - 1, steps, self.config.targets.ema_start)
            self.target_encoder.follow(self.model.encoder, momentum)
        super().after_step(step, steps, terms)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """The encoder's: who trains it is what a run is judged by."""
        return list(self.model.encoder.parameters())

    def couple(self, teacher: CausalModel) -> None:
        """Learn from a causal model which text noise stands for; parts of the same shapes begin as its own.

        Raises:
            UsageError: the encoder is a causal one of other sizes.
        """
        self.coupling = Coupling(Teacher(teacher), self.config.coupling)
        begin_as_teacher(self.model, teacher)
        if self.target_encoder is not None:
            self.target_encoder.follow(self.model.encoder, 0.0)

    # Layouts

    def layout(self, tokens: Tokens, *, ends_at_zero: bool = False) -> Layout:
        """Lay out one view of a batch; where its places are given, by them."""
        width = tokens.ids.shape[1]
        return Layout.of(
            tokens.lengths, width, packed=self.packing, ends_at_zero=ends_at_zero, places=tokens.places
        )

    def source_layout(self, tokens: Tokens) -> Layout:
        """Lay out sources: before their targets, or aligned with them."""
        return self.layout(tokens, ends_at_zero=self.model.config.source_positions == "before")

    def lay_out_sources(self, lengths: Tensor, width: int) -> Layout:
        """Lay out sources of given lengths (B,), of which there are embeddings only."""
        before = self.model.config.source_positions == "before"
        return Layout.of(lengths, width, packed=self.packing, ends_at_zero=before)

    def embedding_layout(self, layout: Layout) -> Layout:
        """The layout of the target embeddings of texts that are laid out so: of positions, or of latents."""
        return layout.latents(self.model.config.latent.tokens)

    @staticmethod
    def labels(tokens: Tokens, layout: Layout) -> Tensor:
        """The right token of every position, packed as the layout says; `IGNORE` where there is no text."""
        if layout.index is not None:
            return layout.pack(tokens.ids)  # (N,)
        return tokens.ids.masked_fill(~layout.mask, IGNORE)  # (B, T)

    # Encoding

    def encode_source(self, tokens: Tokens, states: Tensor | None = None) -> tuple[Tensor, Layout]:
        """Source embeddings (..., D) and their layout; without a graph where nothing learns from them.

        Args:
            tokens: the sources.
            states: (B, T, D) what the encoder's last layer would make of them, where it is known.
        """
        layout = self.source_layout(tokens)
        if states is not None:
            return self.model.encoder.normalise(layout.pack(states)), layout
        unread = self._detached and self.model.local is None and "encoder_lm" not in self.counted
        with torch.no_grad() if unread else nullcontext():
            return self.model.encoder(tokens.ids, layout), layout

    def encode_action(self, tokens: Tokens | None) -> ActionView | None:
        """Embeddings (..., D) of actions and their layout; None where the model is conditioned on none.

        Raises:
            UsageError: the model is conditioned on actions, and there are none.
        """
        if self.model.config.action.conditioning == "none":
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
    def _detached(self) -> bool:
        """Whether predictor and length head teach the encoder nothing."""
        return self.config.embedding.detach_source and self.config.length.detach_source

    def encode_target(self, batch: Batch, layout: Layout, *, noisy: bool) -> EncodedTarget:
        """Embed targets, laid out so, by the trained encoder.

        With token dropout the encoder runs twice: the decoder reads what is left of the target, the predictor
        must match the whole.

        Args:
            batch: the pairs.
            layout: of the targets.
            noisy: whether the decoder's embeddings get the autoencoder's noise.
        """
        config, encoder = self.config.autoencoder, self.model.encoder
        ids, read = self._read_for_target(batch, layout)
        dropping = noisy and config.token_dropout > 0
        posterior = encoder.posterior(drop_tokens(ids, config.token_dropout) if dropping else ids, read)
        whole = posterior
        if dropping:  # second, because autocast keeps the cast weights of the first pass: they need a graph
            unread = self.config.embedding.detach_target and self.regularizer is None
            with torch.no_grad() if unread else nullcontext():
                whole = encoder.posterior(ids, read)
        embeddings = decodable = self._of_target(whole.mean, read, layout)  # (..., D')
        if noisy and (dropping or posterior.log_std is not None):
            decodable = self._of_target(sample(posterior, self.embedding_layout(read)), read, layout)
        if noisy and (config.noise > 0 or config.latent_dropout > 0):
            decodable = disturb(decodable, self.embedding_layout(layout), config)
        if layout.given:
            posterior = posterior.map(lambda x: picked(x, read, layout))
        return EncodedTarget(embeddings, decodable, posterior)

    def average_target(self, batch: Batch, layout: Layout) -> Tensor:
        """Target embeddings (..., D') by the averaged target encoder, of targets that are laid out so."""
        assert self.target_encoder is not None
        ids, read = self._read_for_target(batch, layout)
        return self._of_target(self.target_encoder(ids, read).mean, read, layout)

    def _read_for_target(self, batch: Batch, layout: Layout) -> tuple[Tensor, Layout]:
        """What an encoder reads to embed the targets, (B, T), laid out; of hidden spans the whole text."""
        if not layout.given:
            return batch.target.ids, layout
        text = whole_text(batch.source, batch.target)
        return text.ids, self.layout(text)

    def _of_target(self, embeddings: Tensor, read: Layout, layout: Layout) -> Tensor:
        """Embeddings (..., D') of what was read, normalised; of hidden spans the rows of the spans."""
        if self.config.targets.normalisation != "none":
            embeddings = self.normalise(embeddings, self.embedding_layout(read))
        return picked(embeddings, read, layout) if layout.given else embeddings

    def normalise(self, embeddings: Tensor, layout: Layout) -> Tensor:
        """Embeddings (..., D) in the normalisation of the targets."""
        return normalised(embeddings, layout, self.config.targets.normalisation)

    def as_targets(self, embeddings: Tensor, layout: Layout) -> tuple[Tensor, Layout]:
        """The encoder's embeddings of any text (..., D) as they would be of a target (..., D'), laid out."""
        latents = self.embedding_layout(layout)
        return self.normalise(self.model.encoder.squeeze(embeddings, layout).mean, latents), latents

    def embed_targets(self, tokens: Tokens) -> tuple[Tensor, Layout]:
        """What the predictor would have to match of texts (..., D'), and its layout."""
        layout = self.layout(tokens)
        if self.target_encoder is None:
            return self.as_targets(self.model.encoder(tokens.ids, layout), layout)
        latents = self.embedding_layout(layout)
        return self.normalise(self.target_encoder(tokens.ids, layout).mean, latents), latents

    # Predicting

    def predict(
        self,
        source: Tensor,
        source_layout: Layout,
        target_layout: Layout,
        conditioning: Conditioning | None = None,
    ) -> Tensor:
        """Predicted embeddings (..., D') of a target; see `predict_with_logits`."""
        return self.predict_with_logits(source, source_layout, target_layout, conditioning).embeddings

    def predict_with_logits(
        self,
        source: Tensor,
        source_layout: Layout,
        target_layout: Layout,
        conditioning: Conditioning | None = None,
    ) -> Prediction:
        """Predicted embeddings of a target, and the predictor's intermediate logits.

        Args:
            source: source embeddings (..., D).
            source_layout: positions of the source.
            target_layout: positions to predict.
            conditioning: what the prediction is conditioned on beside; None is nothing.

        Raises:
            UsageError: the model is conditioned on actions, and there is none.
        """
        conditioning = conditioning or Conditioning()
        action = conditioning.action
        if action is None:
            self.encode_action(None)  # an error where there has to be one
        if self.model.config.decoder.embeddings == "positions":  # which are read in their place
            mask = target_layout.mask
            unread = source.new_zeros(*mask.shape, self.model.config.target_dim)  # (B, T, D')
            return Prediction(target_layout.pack(unread))
        if self.config.embedding.detach_source:
            source = source.detach()
            if action is not None and self.model.action is None:
                conditioning = replace(conditioning, action=(action[0].detach(), action[1]))
        prediction: Prediction = self.model.predictor(
            self.embedding_layout(target_layout), source, source_layout, conditioning
        )
        return prediction

    @property
    def reads_gumbel(self) -> bool:
        """Whether the predictor reads Gumbel noise."""
        return self.model.config.predictor.noise == "gumbel"

    def draw_noise(
        self, target_layout: Layout, scale: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor | None:
        """Draw the Gumbel noise (B, T, V) that the predictor reads; None where it reads none, and at scale 0.

        Args:
            target_layout: positions to predict.
            scale: what the noise is multiplied by.
            generator: draws; torch's own when None.
        """
        if not self.reads_gumbel or scale == 0:
            return None
        shape = (*target_layout.mask.shape, self.vocab_size)
        return scale * draw_gumbel(shape, target_layout.mask.device, generator)

    def distance(self, predicted: Tensor, target: Tensor) -> Tensor:
        """The configured distance of each position's embeddings: two of (..., D) to (...)."""
        kind = self.config.embedding.distance
        if kind == "smooth_l1":
            return smooth_l1_distance(predicted, target, self.config.embedding.smooth_l1_beta)
        return cosine_distance(predicted, target) if kind == "cosine" else squared_distance(predicted, target)

    def decode(self, embeddings: Tensor, layout: Layout, context: DecoderContext | None = None) -> Tensor:
        """Embeddings (..., D') of texts that are laid out so to logits (..., V).

        Args:
            embeddings: of targets, or predicted.
            layout: of the targets.
            context: what an autoregressive decoder reads beside; None for a parallel one.
        """
        logits: Tensor = self.model.decoder(*decoder_input(embeddings, layout, context))
        return logits

    def decode_predicted(
        self, predicted: Tensor, layout: Layout, context: DecoderContext | None = None
    ) -> Tensor:
        """As `decode`, by a decoder that learns from predicted embeddings or not."""
        if self.config.generation.train_decoder:
            return self.decode(predicted, layout, context)
        decoder = self.model.decoder
        fixed = {name: parameter.detach() for name, parameter in decoder.named_parameters()}
        return functional_call(decoder, fixed, decoder_input(predicted, layout, context))

    def decoder_context(self, batch: Batch, source: Tensor, source_layout: Layout) -> DecoderContext:
        """What an autoregressive decoder reads beside embeddings: the tokens before each, and the source.

        Args:
            batch: the pairs.
            source: source embeddings (..., D).
            source_layout: positions of the sources.
        """
        last = source_layout.last(source.detach() if self.config.embedding.detach_source else source)
        n_previous = self.model.config.decoder.n_previous
        previous, ngram = read_before(batch.source, batch.target, n_previous, self.expert)
        return DecoderContext(previous, last, ngram)

    def local_logits(self, source: Tensor, layout: Layout, places: Layout) -> Tensor:
        """What the local head makes of the source's embeddings at the target's places, (..., V)."""
        assert self.model.local is not None
        return self.model.local(picked(source, layout, places))

    # Lengths

    @property
    def _classifies_length(self) -> bool:
        return self.config.length.kind == "classification"

    def likely_lengths(
        self, source: Tensor, layout: Layout, n: int = 1, action: ActionView | None = None
    ) -> Tensor | None:
        """The n most likely target lengths (B, n) from 1 on, the likeliest first; None without a head."""
        if self.model.length is None:
            return None
        found = self._length_output(source, layout, action)
        return likeliest_lengths(found, self.model.config.target_len, n)

    def _length_output(self, source: Tensor, layout: Layout, action: ActionView | None) -> Tensor:
        """Lengths (B,), or logits (B, L + 1) of all lengths from 0 on."""
        assert self.model.length is not None
        if self.config.length.detach_source:
            source = source.detach()
            action = action and (action[0].detach(), action[1])
        found: Tensor = self.model.length(source, layout, action)
        if not self.config.length.relative:
            return found
        return as_lengths(found, layout.mask.sum(1), self.model.config, self.config.length)

    # Measuring

    def encode_and_predict(self, batch: Batch, noise: Tensor | None = None) -> Views:
        """Everything that can be measured of a batch.

        Args:
            batch: the pairs.
            noise: (B, T, V) Gumbel noise that stands for the targets; ignored by a predictor that reads none.
        """
        layout = self.layout(batch.target)
        encoded = self.encode_target(batch, layout, noisy=self.training)
        averaged = self.target_encoder is not None
        source, source_layout = self.encode_source(batch.source)
        action = self.encode_action(batch.action)
        if noise is None:
            noise = self.draw_noise(layout, float(self.training))
        given = Conditioning(action, noise=noise)
        prediction = self.predict_with_logits(source, source_layout, layout, given)
        has_length, has_local = self.model.length is not None, self.model.local is not None
        lengths = self._length_output(source, source_layout, action) if has_length else None
        logits = lengths if self._classifies_length else None
        return Views(
            source=source,
            target=self.average_target(batch, layout) if averaged else encoded.embeddings,
            encoded=encoded.embeddings,
            decodable=encoded.decodable,
            posterior=encoded.posterior,
            predicted=prediction.embeddings,
            intermediate_logits=prediction.intermediate_logits,
            lengths=lengths if logits is None else expected_length(logits),
            length_logits=logits,
            local_logits=self.local_logits(source, source_layout, layout) if has_local else None,
            source_layout=source_layout,
            target_layout=layout,
            embedding_layout=self.embedding_layout(layout),
            context=self.decoder_context(batch, source, source_layout) if self.reads_context else None,
        )


def decoder_input(
    embeddings: Tensor, layout: Layout, context: DecoderContext | None
) -> tuple[Tensor, Layout] | tuple[Tensor, Layout, DecoderContext]:
    """The arguments of a parallel decoder, which reads no context, or of an autoregressive one."""
    return (embeddings, layout) if context is None else (embeddings, layout, context)
