"""The causal objective: the cross-entropy of each next token, and latent prediction beside it.

A pair is read as one text, source (then action) then target, each closed with the end token; a
window of a stream has no end. The `latent` term (LLM-JEPA, arXiv 2509.14252) reads the two views of each
pair in further rows of the same pass; the `tube` term (Semantic Tube Prediction, arXiv 2602.22617) reads
the states of the text itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepalm.config import ModelConfig, ObjectiveConfig
from jepalm.data.batches import Batch, Tokens
from jepalm.data.tokenizer import TextTokenizer
from jepalm.model.backbone import Backbone
from jepalm.model.causal import CausalLM, CausalModel
from jepalm.objective.base import Objective
from jepalm.objective.latent import counts_at, latent_distance
from jepalm.objective.targets import TargetLM, target_momentum
from jepalm.objective.terms import IGNORE, Losses, cross_entropy
from jepalm.objective.tube import draw_triples, tube_cosine
from jepalm.objective.views import PADDING, PackedViews, closed, joined, pack_views, views_of


@dataclass(frozen=True)
class Sequences:
    """A batch of pairs as the causal model reads it.

    Attributes:
        ids: (B, T) tokens read, left-aligned.
        labels: (B, T) the token after each; `IGNORE` where none is learned.
        lengths: (B,) tokens of each text that are read, its end not among them.
        n_labels: labels of the global batch.
        padded: whether there may be padding.
    """

    ids: Tensor
    labels: Tensor
    lengths: Tensor
    n_labels: int
    padded: bool = True


class CausalObjective(Objective):
    """Owns the CausalLM, or a backbone in its place, and turns a batch into loss terms.

    Attributes:
        average: the moving average of the model that embeds the predicted view, where there is one.
        latent_counts: whether the latent term counts in this step.
    """

    model: CausalModel
    optional_parts = frozenset({"vocabulary", "predictor_tokens", "predictor"})

    def __init__(
        self,
        model: ModelConfig,
        objective: ObjectiveConfig,
        vocab_size: int,
        *,
        packing: bool = False,
        attention: str = "auto",
        half: bool = False,
    ) -> None:
        super().__init__()
        self.config = objective
        self.packing = packing
        latent, on = objective.latent, objective.latent.weight > 0
        build = CausalLM if model.backbone is None else partial(Backbone, half=half)
        self.model = build(
            model,
            vocab_size,
            attention,
            predictor_tokens=latent.predictor_tokens if on else 0,
            linear_predictor=on and latent.predictor == "linear",
        )
        self.average = TargetLM(self.model) if on and latent.target == "ema" else None
        self.set_terms("causal", objective)
        self.latent_counts = True
        self._seed = torch.initial_seed()  # the run's, so that runs drop the term at different steps

    @property
    def left_out(self) -> tuple[str, ...]:
        """The latent term, in steps that drop it."""
        return () if self.latent_counts else ("latent",)

    @property
    def may_leave_out(self) -> bool:
        """Under loss dropout."""
        return self.probability("latent") < 1

    def probability(self, term: str) -> float:
        """How likely a step computes a term that counts; a term that is alone, always."""
        dropped = term == "latent" and term in self.counted and len(self.counted) > 1
        return 1 - self.config.latent.dropout if dropped else 1.0

    def parameters_by_part(self) -> dict[str, int]:
        """Number of parameters of each part that can learn, and of the backbone under adapters."""
        frozen = {"frozen": self.model.n_frozen} if self.model.n_frozen else {}
        return self.model.parameters_by_part() | frozen

    def forward(self, batch: Batch) -> Losses:
        """Terms that count of one micro batch, each over the size of its global batch."""
        on = self.counted.keys() - set(self.left_out)
        read = self.sequences(batch)
        views = self.views(batch) if "latent" in on else None
        hidden, of_views = self.read(read, views)  # (B, T, D) each
        terms: dict[str, Tensor] = {}
        if "next_token" in on:
            logits = self.model.logits(hidden)  # (B, T, V)
            terms["next_token"] = cross_entropy(logits, read.labels, read.n_labels)
        if views is not None:
            terms["latent"] = self._latent(batch, views, of_views) / batch.n_pairs
        if "tube" in on:
            terms["tube"] = self._tube(hidden, read.lengths) / batch.n_with_three
        return self.weighting(terms, len(batch.target.lengths) / batch.n_pairs)

    def before_step(self, step: int) -> None:
        """Draw whether the latent term counts, the same on all devices; `step` counts from 0."""
        rate = self.config.latent.dropout
        self.latent_counts = not self.may_leave_out or counts_at(step, rate, self._seed)

    def after_step(self, step: int, steps: int, terms: Tensor | None = None) -> None:
        """Move the average after the model; see the base class."""
        if self.average is not None:
            self.average.follow(self.model, target_momentum(step - 1, steps, self.config.latent.ema_start))
        super().after_step(step, steps, terms)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """All of the model's once there are terms to compare."""
        return list(self.model.parameters()) if len(self.term_names) > 1 else []

    def views(self, batch: Batch) -> PackedViews:
        """Both views of each pair in one row, or the first alone where the average embeds the other."""
        first, second = views_of(batch, reverse=self.config.latent.reverse)
        return self.packed(first, second if self.average is None else [])

    def packed(self, first: list[Tokens], second: list[Tokens]) -> PackedViews:
        """The views of pairs in one row, the predictor tokens behind the first."""
        return pack_views(
            first,
            second,
            first_token=self.model.tokens.num_embeddings,
            n_tokens=self.model.n_predictor_tokens,
        )

    def predicted(self, views: PackedViews, hidden: Tensor) -> Tensor:
        """Predicted embeddings of pairs (B, D) from the states (B, T, D) of the views."""
        found = views.first(hidden, self.config.latent.pooling)
        return found if self.model.predictor is None else self.model.predictor(found)

    def embeddings(self, batch: Batch, views: PackedViews, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted and target embeddings of pairs, two of (B, D), from the states (B, T, D) of the views."""
        pooling, predicted = self.config.latent.pooling, self.predicted(views, hidden)
        if self.average is None:
            target = views.second(hidden, pooling)
            return predicted, target.detach() if self.config.latent.stop_gradient else target
        alone = pack_views(views_of(batch, reverse=self.config.latent.reverse)[1], [])
        return predicted, alone.first(self.average(alone.ids), pooling)

    def sequences(self, batch: Batch) -> Sequences:
        """Join each pair to one text, with the label of every position."""
        learn_all = self.config.next_token.loss_on == "all"
        if batch.whole is None:  # windows: every text is full
            ids = torch.cat((batch.source.ids, batch.target.ids), dim=1)  # (B, T + 1)
            n_source = batch.n_read_tokens - batch.n_pairs if learn_all else 0
            first = 1 if learn_all else batch.source.ids.shape[1]
            labels = ids.clone()
            labels[:, :first] = IGNORE
            full = torch.full_like(batch.target.lengths, ids.shape[1] - 1)  # (B,)
            return Sequences(ids[:, :-1], labels[:, 1:], full, n_source + batch.n_target_tokens, False)
        given = [closed(part) for part in views_of(batch)[0]]
        ids, lengths = joined([*given, batch.target], batch.whole)  # (B, T + 1), (B,)
        read = torch.stack([part.lengths for part in given]).sum(0)  # (B,)
        places = torch.arange(ids.shape[1], device=ids.device)
        start = torch.ones_like(read) if learn_all else read  # (B,)
        learned = (places >= start[:, None]) & (places < lengths[:, None])  # (B, T + 1)
        n_labels = batch.n_target_tokens + batch.n_whole
        if learn_all:
            n_labels += batch.n_read_tokens + (len(given) - 1) * batch.n_pairs  # no label is the first token
        labels = ids.masked_fill(~learned, IGNORE)[:, 1:]  # (B, T)
        return Sequences(ids[:, :-1], labels, read + batch.target.lengths, n_labels)

    def read(self, read: Sequences, views: PackedViews | None = None) -> tuple[Tensor, Tensor]:
        """States (B, T, D) of the texts, and those of the views, in one call of the model.

        With packing the states of padding are 0. Without views those of the texts are given twice.
        """
        lengths = read.lengths if self.packing and read.padded else None
        if views is None:
            hidden = self.model.hidden(read.ids, lengths=lengths)  # (B, T, D)
            return hidden, hidden
        if lengths is not None:
            lengths = torch.cat((lengths, views.end))  # (2B,)
        width = max(read.ids.shape[1], views.ids.shape[1])
        ids = torch.cat([widened(part, width, TextTokenizer.PAD) for part in (read.ids, views.ids)])
        segments = widened(views.segments, width, PADDING)  # (B, T)
        segments = torch.cat((torch.zeros_like(segments), segments))  # (2B, T)
        hidden = self.model.hidden(ids, segments=segments, lengths=lengths)  # (2B, T, D)
        texts, of_views = hidden.chunk(2)  # two of (B, width, D)
        return texts[:, : read.ids.shape[1]], of_views[:, : views.ids.shape[1]]

    def _latent(self, batch: Batch, views: PackedViews, hidden: Tensor) -> Tensor:
        """Distance of predicted to target embeddings, summed over pairs."""
        predicted, target = self.embeddings(batch, views, hidden)
        latent = self.config.latent
        distances = latent_distance(
            predicted, target, latent.distance, latent.temperature, over_processes=self.training
        )
        return distances.sum()

    @staticmethod
    def _tube(hidden: Tensor, lengths: Tensor) -> Tensor:
        """1 - cosine of a triple's steps, summed over the texts that have one."""
        return ((1 - tube_cosine(hidden, draw_triples(lengths))) * (lengths >= 3)).sum()


def widened(rows: Tensor, width: int, filler: int) -> Tensor:
    """(B, T) rows with columns of the filler on the right, (B, width)."""
    return F.pad(rows, (0, width - rows.shape[1]), value=filler)
