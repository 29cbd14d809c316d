"""The JEPALM objective: reconstruction, embedding, generation and length terms of a batch of pairs.

Where gradients flow decides what is learned. In the reference arrangement the encoder learns by
reconstruction alone: the predictor and the length head read detached source embeddings and the
targets carry a stop-gradient. An action that the same encoder reads is detached where the source is;
an encoder of its own has nothing else to learn from and never is, but for the length head.

The decoder learns to read the trained encoder's embeddings of the target, whoever makes the targets, in
the targets' normalisation: what the predictor learns to write is then what the decoder reads, up to
the lag of an averaged target encoder, and up to the autoencoder's noise in training.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from jepalm.config import ModelConfig, ObjectiveConfig
from jepalm.data.batches import Batch, Tokens
from jepalm.errors import UsageError
from jepalm.model.causal_model import CausalModel
from jepalm.model.jepalm import JEPALM
from jepalm.model.latents import Posterior
from jepalm.model.layers import Layout
from jepalm.model.noise import Noise, draw_noise
from jepalm.model.queries import Known
from jepalm.objective.autoencoder import disturb, divergence, drop_tokens, sample
from jepalm.objective.base import Objective, Scope
from jepalm.objective.coupling import Coupling, Teacher, fresh_noise
from jepalm.objective.energy import EnergyScore, energy_score, same_draws
from jepalm.objective.lengths import as_lengths, expected_length, length_bins, likeliest_lengths
from jepalm.objective.own_text import with_own_text
from jepalm.objective.regularizers import build_regularizer
from jepalm.objective.revealing import draw_revealed, hidden_weights, share_left
from jepalm.objective.spans import Reading, picked, whole_text
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
from jepalm.objective.weighting import build_weighting

ActionView = tuple[Tensor, Layout]
"""Embeddings (..., D) of actions, packed or padded as their layout says."""


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
        predicted: predicted embeddings (..., D'); of a predictor with noise one draw in training, and that of
            noise 0 in evaluation.
        lengths: predicted lengths (B,), of a classification their expectation; None without a length head.
        source_layout: positions of the sources.
        target_layout: positions of the targets.
        embedding_layout: positions of the targets' embeddings.
        length_logits: (B, L + 1) of a length classification, else None.
        local_logits: (..., V) of the local head at the target's places, else None.
        weights: (...) of the target's positions in the terms of predictions, where tokens were revealed.
        samples: (N, ..., D') predicted embeddings for an energy score, else None.
        draws: (M, ..., D') target embeddings for an energy score, else None.
        guesses: logits (..., V) of each guess of the predictor's layers, where they guess.
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
    samples: Tensor | None = None
    draws: Tensor | None = None
    guesses: tuple[Tensor, ...] = ()


class JepalmObjective(Objective):
    """Owns the JEPALM and turns a batch into loss terms.

    Attributes:
        coupling: the teacher that couples texts to noise, while there is one; see `couple`.
        revealing: scalar, what the shares of revealed tokens are multiplied by in this step.
    """

    model: JEPALM
    revealing: Tensor
    coupling: Coupling | None = None
    _encodes_as_teacher: bool | None = None
    """Whether the encoder stands still as the teacher's layers; None: to be found out."""
    optional_parts = frozenset({"local", "length", "action"})

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
        self.config, self.vocab_size = objective, vocab_size
        self.packing = packing
        self.weights = {
            "reconstruction": objective.reconstruction.weight,
            "embedding": objective.embedding.weight,
            "generation": objective.generation.weight,
            "guesses": objective.guesses.weight,
            "local": objective.local.weight,
            "length": objective.length.weight,
            "kl": objective.kl.weight,
            "regularizer": objective.regularizer.weight,
        }
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
        self.register_buffer("revealing", torch.ones(()), persistent=False)
        self.weighting = build_weighting(
            objective,
            {name: self.weights[name] for name in self.all_terms},
            cross_entropies=self._cross_entropies(),
            constant=frozenset({"kl", "regularizer"}),
        )

    @property
    def all_terms(self) -> list[str]:
        """The terms that are on, in the order of `forward`."""
        names = ["reconstruction", "embedding"]
        if self.config.generation.weight > 0:
            names.append("generation")
        if self.config.guesses.weight > 0:
            names.append("guesses")
        if self.model.local is not None:
            names.append("local")
        if self.model.length is not None:
            names.append("length")
        if self.config.kl.weight > 0:
            names.append("kl")
        if self.regularizer is not None:
            names.append("regularizer")
        return names

    def forward(self, batch: Batch) -> Losses:
        """Terms that count of one micro batch, each over the size of its global batch."""
        counted, noise, states = self.counted, None, None
        if _any_of(counted, "embedding", "generation", "guesses", "local", "length"):
            batch = with_own_text(self, batch)
        if self.coupling is not None and self.training:
            coupled = self.coupling.couple(batch)
            batch, noise = coupled.batch, coupled.noise
            states = coupled.states if self._encodes_as_teacher else None
        views = self.encode_and_predict(batch, counted, noise, states)
        layout, n_tokens = views.target_layout, batch.n_target_tokens
        n_embeddings = n_tokens if views.embedding_layout is layout else batch.n_target_latents
        labels = self.labels(batch.target, layout)
        terms = {}
        if "reconstruction" in counted:
            decoded = self.model.decoder(views.decodable, layout)  # (..., V)
            terms["reconstruction"] = cross_entropy(decoded, labels, n_tokens)
        if "embedding" in counted:
            terms["embedding"] = self._embedding_total(views) / n_embeddings
        if "generation" in counted:
            decoded = self._decode_predicted(views)  # (..., V)
            terms["generation"] = cross_entropy(decoded, labels, n_tokens, views.weights)
        if "guesses" in counted:
            costs = [cross_entropy(guess, labels, n_tokens, views.weights) for guess in views.guesses]
            terms["guesses"] = torch.stack(costs).mean()
        if views.local_logits is not None:
            terms["local"] = cross_entropy(views.local_logits, labels, n_tokens)
        if views.length_logits is not None:
            terms["length"] = cross_entropy(views.length_logits, batch.target.lengths, batch.n_pairs)
        elif views.lengths is not None:
            terms["length"] = length_error(views.lengths, batch.target.lengths, batch.n_pairs)
        if "kl" in counted:
            nats = divergence(views.posterior, self.config.kl.floor)  # (...)
            terms["kl"] = views.embedding_layout.total(nats) / n_embeddings
        share = len(batch.target.lengths) / batch.n_pairs
        if self.regularizer is not None and "regularizer" in counted:
            terms["regularizer"] = share * self.regularizer(views.encoded, views.embedding_layout)
        return self.weighting(terms, share)

    def before_step(self, step: int) -> None:
        """Draw what is random once an optimizer step, the same on all devices; `step` counts from 0."""
        self.revealing.fill_(share_left(self.config.reveal, step))
        if self._encodes_as_teacher is None:
            self._encodes_as_teacher = self._has_the_teachers_encoder()
        if self.regularizer is not None:
            self.regularizer.before_step(step)

    def enter(self, scope: Scope) -> None:
        """Count and teach what the scope says; see the base class."""
        super().enter(scope)
        self._encodes_as_teacher = None

    def after_step(
        self, step: int, steps: int, terms: Tensor | None = None, norms: Tensor | None = None
    ) -> None:
        """Move the target encoder after the trained one; see the base class."""
        if self.target_encoder is not None and self.learns("encoder"):
            momentum = target_momentum(step - 1, steps, self.config.targets.ema_start)
            self.target_encoder.follow(self.model.encoder, momentum)
        super().after_step(step, steps, terms, norms)

    def distance(self, predicted: Tensor, target: Tensor) -> Tensor:
        """The configured distance of each position's embeddings: two of (..., D) to (...)."""
        kind = self.config.embedding.distance
        if kind == "smooth_l1":
            return smooth_l1_distance(predicted, target, self.config.embedding.smooth_l1_beta)
        return cosine_distance(predicted, target) if kind == "cosine" else squared_distance(predicted, target)

    def energy(self, views: Views) -> EnergyScore:
        """The energy score of each text, of as many samples as are set."""
        assert views.samples is not None
        assert views.draws is not None
        layout, settings = views.embedding_layout, self.config.embedding
        samples = torch.stack([layout.pad(x) for x in views.samples])  # (N, B, T', D')
        draws = torch.stack([layout.pad(x) for x in views.draws])  # (M, B, T', D')
        hidden = None if views.weights is None else layout.pad(views.weights) > 0  # (B, T)
        windows, exponent = settings.windows, settings.exponent
        return energy_score(samples, self._as_target(draws), layout.mask, windows, exponent, hidden)

    def _embedding_total(self, views: Views) -> Tensor:
        """The embedding term, summed over positions; a text's energy score counts for each of its own."""
        if views.samples is not None:
            return (self.energy(views).total * views.embedding_layout.mask.sum(1)).sum()
        distance = self.distance(views.predicted, self._as_target(views.target))  # (...)
        if views.weights is not None:
            distance = distance * views.weights
        return views.embedding_layout.total(distance)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """The encoder's: who trains it is what a run is judged by."""
        return list(self.model.encoder.parameters())

    def couple(self, teacher: CausalModel) -> None:
        """Learn from a causal model what noise says; parts that have the shapes begin as its own.

        An encoder that is a trunk takes over its layers, and guesses take over its table of tokens where they
        are as wide.

        Raises:
            UsageError: the encoder is a trunk of other sizes.
        """
        self.coupling = Coupling(Teacher(teacher), self.config.coupling)
        trunk, guesses = self.model.encoder.trunk, self.model.predictor.guesses
        if trunk is not None:
            if not trunk.fits(teacher):
                sizes = teacher.config
                message = "model.encoder.kind=causal needs the sizes of its teacher"
                hint = (
                    f"set model.dim={sizes.dim} model.n_heads={sizes.n_heads} "
                    f"model.ffn_mult={sizes.ffn_mult:g} model.encoder.n_layers={sizes.causal.n_layers}"
                )
                raise UsageError(message, hint)
            trunk.start_from(teacher)
            if self.target_encoder is not None:
                self.target_encoder.follow(self.model.encoder, 0.0)
        if guesses is not None and guesses.head.weight.shape == teacher.tokens.weight.shape:
            guesses.start_from(teacher.tokens.weight)

    def _has_the_teachers_encoder(self) -> bool:
        trunk = self.model.encoder.trunk
        if trunk is None or self.coupling is None or self.learns("encoder"):
            return False
        return trunk.equals(self.coupling.teacher.model)

    @property
    def reads_noise(self) -> bool:
        """Whether the predictor reads Gumbel noise."""
        return self.model.config.predictor.noise == "gumbel"

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
            noise: (B, T, V) Gumbel noise that says the targets; only a predictor that reads some is told.
            states: see `encode_source`.
        """
        target_layout = self.layout(batch.target)
        reading, embedding_layout = self._reading(batch, target_layout), self._latents(target_layout)
        encoded = decodable = target = source = predicted = torch.empty(0)
        posterior = whole = Posterior(encoded)
        samples = draws = None
        shared = self.target_encoder is None
        read = _any_of(terms, "reconstruction", "kl")
        if read or _any_of(terms, "regularizer", *(["embedding"] if shared else [])):
            encoded, decodable, posterior, whole = self._encode_target(reading, embedding_layout, noisy=read)
            target = encoded  # (..., D')
        if self.target_encoder is not None and _any_of(terms, "embedding"):
            whole = self.target_encoder.posterior(reading.ids, reading.layout)
            target = reading.pick(self.normalise(whole.mean, self._latents(reading.layout)))  # (..., D')
        if _any_of(terms, "embedding", "generation", "guesses", "local", "length"):
            source, source_layout = self.encode_source(batch.source, states)
        else:
            source_layout = self.source_layout(batch.source)
        acts = _any_of(terms, "embedding", "generation", "guesses", "length")
        action = self.encode_action(batch.action) if acts else None
        known = weights = None
        guesses: list[Tensor] = []
        if _any_of(terms, "embedding", "generation", "guesses"):
            known = self._reveal(batch.target, target_layout)
            given = (source, source_layout, target_layout, action, known)
            if self.config.embedding.distance == "energy" and _any_of(terms, "embedding"):
                with self._draws(batch):
                    samples, draws = self._samples(*given), self._target_draws(whole, reading)
            if samples is not None and self.training:
                predicted = samples[0]
            else:
                own = noise if self.reads_noise else self.draw_noise(target_layout, float(self.training))
                predicted = self.predict(*given, own, guesses)
        if known is not None and self.model.predictor.guesses is None:  # which tells none its own token
            weights = target_layout.pack(hidden_weights(target_layout.mask, known.revealed))  # (...)
        found = self._length_output(source, source_layout, action) if _any_of(terms, "length") else None
        local = self._local_logits(source, source_layout, target_layout) if _any_of(terms, "local") else None
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
            samples,
            draws,
            tuple(guesses),
        )

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

    def predict(
        self,
        source: Tensor,
        source_layout: Layout,
        target_layout: Layout,
        action: ActionView | None = None,
        known: Known | None = None,
        noise: Noise | Tensor | None = None,
        guesses: list[Tensor] | None = None,
    ) -> Tensor:
        """Predicted embeddings (..., D') of a target whose positions, or copies of them, are laid out so.

        Args:
            source: source embeddings (..., D).
            source_layout: positions of the source.
            target_layout: positions to predict.
            action: embeddings of the actions, for a model that is conditioned on them.
            known: tokens that are revealed.
            noise: for a predictor that takes some; one that reads no Gumbel noise (B, T, V) is not told.
            guesses: is given the logits (..., V) of every guess, where the layers guess.

        Raises:
            UsageError: the model is conditioned on actions, and there is none.
        """
        if action is None:
            action = self.encode_action(None)
        if self.config.embedding.detach_source:
            source = source.detach()
            if action is not None and self.model.action is None:
                action = action[0].detach(), action[1]
        places = self._latents(target_layout)
        taken = noise if isinstance(noise, Noise) else None
        gumbel = noise if isinstance(noise, Tensor) and self.reads_noise else None
        told = (action, known, taken, gumbel, guesses)
        predicted: Tensor = self.model.predictor(places, source, source_layout, *told)
        return predicted

    def draw_noise(
        self, target_layout: Layout, scale: float = 1.0, generator: torch.Generator | None = None
    ) -> Noise | Tensor | None:
        """Noise for a prediction in a layout of the target's positions; None where there is none to give.

        Of a predictor that reads Gumbel noise (B, T, V), else for its queries.
        """
        if scale == 0:
            return None
        if self.reads_noise:
            shape = (*target_layout.mask.shape, self.vocab_size)
            return scale * fresh_noise(shape, target_layout.mask.device, generator)
        taken = self.model.predictor.noise
        if taken is None:
            return None
        return draw_noise(self._latents(target_layout), taken.width, scale, generator)

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
        return self.normalise(self.target_encoder(tokens.ids, layout), latents), latents

    def as_targets(self, embeddings: Tensor, layout: Layout) -> tuple[Tensor, Layout]:
        """The encoder's embeddings of any text (..., D) as they would be of a target (..., D'), laid out."""
        latents = self._latents(layout)
        return self.normalise(self.model.encoder.squeeze(embeddings, layout).mean, latents), latents

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

    def _reveal(self, target: Tokens, layout: Layout) -> Known | None:
        """What the predictor is told of the targets: something in training alone, where it can read it."""
        share = self.config.reveal.share_to if self.model.config.predictor.revealed else 0.0
        if not self.training or share == 0:
            return None
        return Known(target.ids, draw_revealed(layout.mask, self.config.reveal, self.revealing))

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

    def _samples(
        self,
        source: Tensor,
        source_layout: Layout,
        target_layout: Layout,
        action: ActionView | None,
        known: Known | None,
    ) -> Tensor:
        """Predicted embeddings (N, ..., D') of each source, all in one pass of the predictor."""
        n = self.config.embedding.samples
        layout = target_layout.copies(n)
        told, noise = known and known.copies(n), self.draw_noise(layout)
        return self.predict(source, source_layout, layout, action, told, noise).unflatten(0, (n, -1))

    def _target_draws(self, posterior: Posterior, reading: Reading) -> Tensor:
        """Draws (M, ..., D') of the target embeddings; points are what they are."""
        read = self._latents(reading.layout)
        number = self.config.embedding.target_samples
        drawn = [self.normalise(sample(posterior, read), read) for _ in range(number)]
        return torch.stack([reading.pick(x) for x in drawn])

    def _draws(self, batch: Batch) -> AbstractContextManager[None]:
        """Context of draws for an energy score: those of the step in training, else the same every time."""
        return nullcontext() if self.training else same_draws(batch.target.ids.device)

    def _decode_predicted(self, views: Views) -> Tensor:
        """Logits (..., V) of the predicted embeddings, by a decoder that learns from them or does not."""
        decoder, given = self.model.decoder, (views.predicted, views.target_layout)
        if self.config.generation.train_decoder:
            return decoder(*given)
        held = {name: parameter.detach() for name, parameter in decoder.named_parameters()}
        return functional_call(decoder, held, given)

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

    def _cross_entropies(self) -> frozenset[str]:
        """The terms in nats."""
        length = {"length"} if self.config.length.kind == "classification" else set()
        return frozenset({"reconstruction", "generation", "guesses", "local"} | length)

    def _as_target(self, target: Tensor) -> Tensor:
        return target.detach() if self.config.embedding.detach_target else target


def _any_of(terms: Collection[str] | None, *names: str) -> bool:
    return terms is None or any(name in terms for name in names)
