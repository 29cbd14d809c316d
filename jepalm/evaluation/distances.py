"""How far given targets are from what a trained run makes of their sources: nats a token, and a distance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jepalm.data.batches import Batch, Tokens, pad_rows
from jepalm.evaluation.text.likelihood import CausalScorer
from jepalm.generation.loading import TrainedModel
from jepalm.model.conditioning import Conditioning
from jepalm.model.decoder import DecoderContext
from jepalm.model.layout import Layout
from jepalm.objective.latent import latent_distance
from jepalm.objective.terms import token_nats
from jepalm.objective.views import prompt_row

AT_ONCE = 64

Distances = dict[str, NDArray[np.float64]]
"""(N,) by kind: `embedding`, the objective's distance, mean over positions; `ce`, nats a token."""
Rows = Sequence[Sequence[int]]
"""Token ids of texts."""


@dataclass(frozen=True)
class TokenPairs:
    """Pairs as a model reads them, token ids of one text or more each.

    Attributes:
        sources: what is read.
        targets: what follows.
        actions: on each source, for a model that reads actions.
    """

    sources: Rows
    targets: Rows
    actions: Rows | None = None

    def batches(self, device: torch.device) -> Iterator[Batch]:
        """Padded batches in the order of the pairs; every target counts as a whole text."""
        for at in range(0, len(self.sources), AT_ONCE):
            rows = slice(at, at + AT_ONCE)
            source, target = pad_rows(self.sources[rows], device), pad_rows(self.targets[rows], device)
            action = None if self.actions is None else pad_rows(self.actions[rows], device)
            whole = torch.ones_like(target.lengths, dtype=torch.bool)
            n_target = int(target.lengths.sum())
            yield Batch(source, target, action, len(source.lengths), n_target, whole=whole)


@dataclass(frozen=True)
class Compared:
    """Given targets of a batch beside their predictions.

    Attributes:
        tokens: of the texts.
        layout: positions of the tokens.
        places: positions of the embeddings.
        target: (..., D') embeddings of the texts.
        predicted: (..., D') predicted ones.
        context: what an autoregressive decoder reads beside; None for a parallel one.
    """

    tokens: Tokens
    layout: Layout
    places: Layout
    target: Tensor
    predicted: Tensor
    context: DecoderContext | None = None


@torch.no_grad()
def compared(trained: TrainedModel, pairs: TokenPairs) -> Iterator[Compared]:
    """Predict the embeddings of targets from their sources by a JEPALM, batch by batch."""
    objective = trained.jepalm
    for batch in pairs.batches(trained.hardware.device):
        layout = objective.layout(batch.target)
        with trained.hardware.autocast():
            act = objective.encode_action(batch.action)
            source = objective.encode_source(batch.source)
            predicted = objective.predict(*source, layout, Conditioning(act))
            target, places = objective.embed_targets(batch.target)
            context = None
            if objective.model.config.decoder.autoregressive:
                context = objective.decoder_context(batch, *source)
        yield Compared(batch.target, layout, places, target, predicted, context)


@torch.no_grad()
def distances(trained: TrainedModel, pairs: TokenPairs) -> Distances:
    """How far each target is from what is predicted of its source, which is given its length.

    The nats of a causal model and of a light decoder are those of the text, token after token; a parallel
    decoder writes every token independently of the others. The end of a text is not counted.

    Returns:
        `embedding` and `ce` of a JEPALM, `ce` of a causal model.
    """
    if trained.is_causal:
        prompts = pairs.sources
        if pairs.actions is not None:
            read = zip(pairs.sources, pairs.actions, strict=True)
            prompts = [[*prompt_row(source), *action] for source, action in read]
        return {"ce": np.array([row.mean() for row in CausalScorer.of(trained).nll(prompts, pairs.targets)])}
    objective = trained.jepalm
    found: dict[str, list[NDArray[np.float64]]] = {"embedding": [np.zeros(0)], "ce": [np.zeros(0)]}
    for one in compared(trained, pairs):
        labels = objective.labels(one.tokens, one.layout)
        with trained.hardware.autocast():
            logits = objective.decode(one.predicted, one.layout, one.context).float()  # (..., V)
        nats = token_nats(logits, labels)  # (...)
        each = objective.distance(one.predicted, one.target)  # (...)
        means = {"embedding": one.places.mean(each[..., None]), "ce": one.layout.mean(nats[..., None])}
        for kind, value in means.items():
            found[kind].append(as_numpy(value[:, 0]))  # of (B, 1)
    return {kind: np.concatenate(parts) for kind, parts in found.items()}


@torch.no_grad()
def view_distances(trained: TrainedModel, pairs: TokenPairs) -> NDArray[np.float64]:
    """Distance of the two views of each pair under a causal model with latent prediction, (N,).

    It is the objective's own; 1 - cosine where that compares the pairs of a batch (InfoNCE).
    """
    objective, found = trained.causal, []
    kind = objective.config.latent.distance
    for batch in pairs.batches(trained.hardware.device):
        views = objective.views(batch)
        with trained.hardware.autocast():
            hidden = objective.model.hidden(views.ids, segments=views.segments)  # (B, T, D)
            predicted, target = objective.embeddings(batch, views, hidden)  # two of (B, D)
        found.append(as_numpy(latent_distance(predicted, target, "cosine" if kind == "infonce" else kind)))
    return np.concatenate(found)


def as_numpy(rows: Tensor) -> NDArray[np.float64]:
    """A tensor as float64 in NumPy."""
    found: NDArray[np.float64] = rows.detach().double().cpu().numpy()
    return found
