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

import torch
from torch import Tensor, nn
from torch.func import functional_call

from jepalm.config import ModelConfig, ObjectiveConfig
from jepalm.data.batches import Batch
from jepalm.errors import UsageError
from jepalm.model.causal_model import CausalModel
from jepalm.model.jepalm import JEPALM
from jepalm.objective.autoencoder import divergence
from jepalm.objective.base import Scope
from jepalm.objective.coupling import Coupling, Teacher
from jepalm.objective.energy import EnergyScore, energy_score
from jepalm.objective.jepalm_predictions import JepalmPredictions, Views
from jepalm.objective.lengths import length_bins
from jepalm.objective.regularizers import build_regularizer
from jepalm.objective.targets import TargetEncoder, target_momentum
from jepalm.objective.terms import (
    Losses,
    cosine_distance,
    cross_entropy,
    length_error,
    smooth_l1_distance,
    squared_distance,
)
from jepalm.objective.unmasking import share_left
from jepalm.objective.weighting import build_weighting


class JepalmObjective(JepalmPredictions):
    """Owns the JEPALM and turns a batch into loss terms.

    Attributes:
        coupling: the teacher that couples texts to noise, while there is one; see `couple`.
    """

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
            "intermediate_logits": objective.intermediate_logits.weight,
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
        self.register_buffer("unmasking", torch.ones(()), persistent=False)
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
        if self.config.intermediate_logits.weight > 0:
            names.append("intermediate_logits")
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
        if self.coupling is not None and self.training:  # the teacher reads the source that the model reads
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
        if "intermediate_logits" in counted:
            costs = [
                cross_entropy(intermediate, labels, n_tokens, views.weights)
                for intermediate in views.intermediate_logits
            ]
            terms["intermediate_logits"] = torch.stack(costs).mean()
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
        self.unmasking.fill_(share_left(self.config.unmasking, step))
        if self._encodes_as_teacher is None:
            self._encodes_as_teacher = self._has_the_teachers_encoder()
        if self.regularizer is not None:
            self.regularizer.before_step(step)

    def enter(self, scope: Scope) -> None:
        """Count and teach what the scope says; see the base class."""
        super().enter(scope)
        self._encodes_as_teacher = None

    def after_step(self, step: int, steps: int, terms: Tensor | None = None) -> None:
        """Move the target encoder after the trained one; see the base class."""
        if self.target_encoder is not None and self.learns("encoder"):
            momentum = target_momentum(step - 1, steps, self.config.targets.ema_start)
            self.target_encoder.follow(self.model.encoder, momentum)
        super().after_step(step, steps, terms)

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

        A causal encoder takes over its layers, and the head of the intermediate logits its table of tokens
        where they are as wide.

        Raises:
            UsageError: the encoder is a causal encoder of other sizes.
        """
        self.coupling = Coupling(Teacher(teacher), self.config.coupling)
        causal_encoder, intermediate_logits = (
            self.model.encoder.causal_encoder,
            self.model.predictor.intermediate_logits,
        )
        if causal_encoder is not None:
            if not causal_encoder.fits(teacher):
                sizes = teacher.config
                message = "model.encoder.kind=causal needs the sizes of its teacher"
                hint = (
                    f"set model.dim={sizes.dim} model.n_heads={sizes.n_heads} "
                    f"model.ffn_mult={sizes.ffn_mult:g} model.encoder.n_layers={sizes.causal.n_layers}"
                )
                raise UsageError(message, hint)
            causal_encoder.start_from(teacher)
            if self.target_encoder is not None:
                self.target_encoder.follow(self.model.encoder, 0.0)
        if (
            intermediate_logits is not None
            and intermediate_logits.head.weight.shape == teacher.tokens.weight.shape
        ):
            intermediate_logits.start_from(teacher.tokens.weight)

    def _has_the_teachers_encoder(self) -> bool:
        causal_encoder = self.model.encoder.causal_encoder
        if causal_encoder is None or self.coupling is None or self.learns("encoder"):
            return False
        return causal_encoder.equals(self.coupling.teacher.model)

    def _decode_predicted(self, views: Views) -> Tensor:
        """Logits (..., V) of the predicted embeddings, by a decoder that learns from them or does not."""
        decoder, given = self.model.decoder, (views.predicted, views.target_layout)
        if self.config.generation.train_decoder:
            return decoder(*given)
        held = {name: parameter.detach() for name, parameter in decoder.named_parameters()}
        return functional_call(decoder, held, given)

    def _cross_entropies(self) -> frozenset[str]:
        """The terms in nats."""
        length = {"length"} if self.config.length.kind == "classification" else set()
        return frozenset({"reconstruction", "generation", "intermediate_logits", "local"} | length)

    def _as_target(self, target: Tensor) -> Tensor:
        return target.detach() if self.config.embedding.detach_target else target
