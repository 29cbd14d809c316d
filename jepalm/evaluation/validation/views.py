"""Health of a causal model's embeddings of the two views of a pair, also where no term shapes them.

A high cosine between paired views means nothing by itself: states of a language model share a direction,
so the views of strangers are near each other, too.
"""

from __future__ import annotations

import torch

from jepalm.data.batches import Batch
from jepalm.evaluation.validation.geometry import (
    paired_minus_unpaired_cosine,
    retrieval_at_1,
    retrieval_chance,
)
from jepalm.evaluation.validation.health import effective_rank
from jepalm.objective.causal import CausalObjective
from jepalm.objective.latent import latent_distance
from jepalm.objective.terms import cosine_distance
from jepalm.objective.views import joined, views_of


def view_metrics(objective: CausalObjective, batches: list[Batch]) -> dict[str, float]:
    """Measure embeddings of held-out pairs as the latent term reads them.

    Returns:
        of predicted and target embeddings: `view_cosine` of pairs, `view_cosine_gap`, that minus the cosine
        of strangers (nothing of a single pair); `view_retrieval`, how often the nearest target embedding is
        the pair's own or of the same text, beside `view_retrieval_chance`; `predicted_view_rank` and
        `view_rank`, effective ranks over pairs; and where the term is on, `latent` as it is configured, which
        with InfoNCE depends on the pairs of a batch.
    """
    config = objective.config.latent
    predicted, targets, texts, distance = [], [], [], 0.0
    for batch in batches:
        views = objective.views(batch)
        hidden = objective.model.hidden(views.ids, segments=views.segments)  # (B, T, D)
        ours, right = (rows.float() for rows in objective.embeddings(batch, views, hidden))  # (B, D)
        distance += float(latent_distance(ours, right, config.distance, config.temperature).sum())
        predicted.append(ours.cpu())
        targets.append(right.cpu())
        ids, lengths = joined(views_of(batch, reverse=config.reverse)[1])
        rows = zip(ids.tolist(), lengths.tolist(), strict=True)
        texts += [tuple(row[:length]) for row, length in rows]
    ours, right = torch.cat(predicted), torch.cat(targets)  # two of (N, D)
    number = {text: place for place, text in enumerate(texts)}
    labels = [number[text] for text in texts]
    found = {
        "view_cosine": float((1 - cosine_distance(ours, right)).mean()),
        "view_retrieval": float(retrieval_at_1(ours, right, labels).mean()),
        "view_retrieval_chance": retrieval_chance(labels),
        "predicted_view_rank": effective_rank(ours),
        "view_rank": effective_rank(right),
    }
    if len(ours) > 1:
        found["view_cosine_gap"] = float(paired_minus_unpaired_cosine(ours, right).mean())
    if "latent" in objective.all_terms:
        found["latent"] = distance / len(ours)
    return found
