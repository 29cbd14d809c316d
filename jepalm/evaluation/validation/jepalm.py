"""Held-out metrics of a JEPALM while training, each beside its baselines, and what it writes."""

from __future__ import annotations

from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import Tensor

from jepalm.data.batches import Batch
from jepalm.data.tokenizer import TextTokenizer
from jepalm.evaluation.validation.causal import shown_sources
from jepalm.evaluation.validation.coupling import Matches
from jepalm.evaluation.validation.exact_likelihood import CONTROLLED, CONTROLS, ByPosition, without_embeddings
from jepalm.evaluation.validation.health import effective_rank, mean_std, r2
from jepalm.evaluation.validation.loss import held_out_loss
from jepalm.evaluation.validation.spans import gap_samples, local_sums
from jepalm.generation.left_to_right import LeftToRight
from jepalm.generation.one_pass import generate
from jepalm.model.layout import Layout
from jepalm.objective.autoencoder import divergence
from jepalm.objective.encoded import Views
from jepalm.objective.jepalm import JepalmObjective
from jepalm.objective.language import decoder_lm, encoder_lm
from jepalm.objective.spans import picked

_PER = {
    "tokens": (
        *("reconstruction_ce", "reconstruction_accuracy", "generation_ce", "generation_accuracy"),
        *("intermediate_logits_ce", "local_ce", "local_accuracy"),
        *(f"{name}_ce_{other}" for name in CONTROLLED for other in CONTROLS),
    ),
    "following": ("encoder_lm_ce",),
    "read": ("decoder_lm_ce",),
    "embeddings": ("embedding_copy", "embedding_distance", "kl", "posterior_std"),
    "pairs": ("length_mae", "length_mse", "length_ce", "length_accuracy", "regularizer"),
}
"""What the sum behind each metric is divided by; a metric that a run does not have has no sum."""


class _Sums(defaultdict[str, float]):
    """Running sums over batches, float64."""

    def __init__(self) -> None:
        super().__init__(float)

    def add(self, **values: Tensor | float) -> None:
        for name, value in values.items():
            self[name] += float(value)


def measure(objective: JepalmObjective, batches: list[Batch]) -> dict[str, float]:
    """Measure an objective on held-out batches.

    Returns:
        `validation/...` metrics: `loss`, the terms that count as configured; reconstruction CE (nats
        a token) and accuracy from the trained encoder's embeddings of the target; generation CE and
        accuracy from predicted ones; `embedding`, the squared distance to the target embeddings summed over
        dimensions (and `embedding_distance`, where another is configured), beside that of predicting the
        held-out mean target and of copying the source's embedding at the same place (its mean where the
        source is shorter; in a gap, that of the mask token there; of latents, the source's own); R2
        against both; length errors in positions, of a classification those of the expected length, beside
        its cross-entropy and the accuracy of its likeliest length; cross-entropy and accuracy of a local
        head; standard deviation and effective rank of target and predicted embeddings; of a variational
        encoder `kl` in nats a latent, and `posterior_std`, the mean over dimensions; of intermediate logits
        `intermediate_logits_ce`, the mean over layers; with a teacher what `Matches` says; and of an
        autoregressive decoder, whose generation CE is an exact NLL, what `without_embeddings` and
        `ByPosition` say.
    """
    sums, by_position = _Sums(), ByPosition()
    matches = None if objective.coupling is None else Matches(objective)
    targets, predictions = [], []
    for batch in batches:
        noise = None if matches is None else matches.noise(batch)
        views = objective.encode_and_predict(batch, noise=noise)
        layout, places, pairs = views.target_layout, views.embedding_layout, len(batch.target.lengths)
        target, predicted = _positions(views.target, places), _positions(views.predicted, places)  # (N', D')
        targets.append(target.cpu())
        predictions.append(predicted.cpu())
        copied = _positions(_copy_of_source(objective, views), places, packed=False)  # (N', D')
        ids = batch.target.ids[layout.mask]  # (N,)
        sums.add(tokens=len(ids), embeddings=len(target), pairs=pairs)
        sums.add(embedding_copy=(copied - target).square().sum())
        for name, embeddings in (("reconstruction", views.decodable), ("generation", views.predicted)):
            logits = _positions(objective.decode(embeddings, layout, views.context), layout)  # (N, V)
            sums.add(**{f"{name}_ce": F.cross_entropy(logits, ids, reduction="sum")})
            sums.add(**{f"{name}_accuracy": (logits.argmax(-1) == ids).sum()})
        if views.context is not None:
            sums.add(**without_embeddings(objective, views, batch))
            by_position.add(logits, ids, layout)
        if matches is not None and noise is not None:
            matches.add(logits, batch, noise)
        costs = [
            F.cross_entropy(_positions(intermediate, layout), ids, reduction="sum")
            for intermediate in views.intermediate_logits
        ]
        if costs:
            sums.add(intermediate_logits_ce=torch.stack(costs).mean())
        sums.add(**local_sums(views, batch))
        if "encoder_lm" in objective.all_terms:
            n_tokens = batch.n_read_tokens - pairs
            nats = encoder_lm(objective.model, batch, views.source, views.source_layout) * n_tokens
            sums.add(encoder_lm_ce=nats, following=n_tokens)
        if "decoder_lm" in objective.all_terms:
            n_tokens = batch.n_read_tokens
            sums.add(
                decoder_lm_ce=decoder_lm(
                    objective.model, batch, packing=objective.packing, expert=objective.expert
                )
                * n_tokens,
                read=n_tokens,
            )
        if objective.config.embedding.distance != "mse":
            sums.add(embedding_distance=objective.distance(predicted, target).sum())
        if views.lengths is not None:
            error = views.lengths.float() - batch.target.lengths
            sums.add(length_mae=error.abs().sum(), length_mse=error.square().sum())
        if views.length_logits is not None:
            logits, lengths = views.length_logits.float(), batch.target.lengths
            sums.add(length_ce=F.cross_entropy(logits, lengths, reduction="sum"))
            sums.add(length_accuracy=(logits.argmax(-1) == lengths).sum())
        if objective.regularizer is not None:
            sums.add(regularizer=objective.regularizer(views.encoded, places) * pairs)
        if views.posterior.log_std is not None:
            nats = divergence(views.posterior, objective.config.kl.floor)  # (...)
            std = views.posterior.log_std.exp().mean(-1)  # (...)
            sums.add(kl=places.total(nats), posterior_std=places.total(std))
    values = _metrics(sums, torch.cat(targets), torch.cat(predictions))
    loss = held_out_loss(objective, values, objective.counted)
    return loss | values | by_position.metrics() | ({} if matches is None else matches.metrics())


def _metrics(sums: _Sums, target: Tensor, predicted: Tensor) -> dict[str, float]:
    """Metrics of sums over all positions, and of target and predicted embeddings, two of (N', D')."""
    found = {name: sums[name] / sums[per] for per, names in _PER.items() for name in names if name in sums}
    error = (predicted - target).square().sum()
    around_mean = (target - target.mean(0)).square().sum()
    found |= {
        "embedding": float(error) / sums["embeddings"],
        "embedding_mean": float(around_mean) / sums["embeddings"],
        "r2": r2(error, around_mean),
        "r2_copy": r2(error, torch.tensor(sums["embedding_copy"])),
        "embedding_std": mean_std(target),
        "effective_rank": effective_rank(target),
        "predicted_std": mean_std(predicted),
        "predicted_effective_rank": effective_rank(predicted),
    }
    return {f"validation/{name}": value for name, value in found.items()}


def jepalm_samples(
    objective: JepalmObjective, batch: Batch, tokenizer: TextTokenizer, n_samples: int
) -> list[tuple[str, str, str]]:
    """(source, target, written) texts of the first pairs: the likeliest ones, but where noise is read.

    Those of windows that are written from left to right are drawn too: the likeliest text goes in circles.
    """
    if not n_samples:
        return []
    if batch.target.places is not None:
        return gap_samples(objective, batch, tokenizer, n_samples)
    drawn = torch.Generator(batch.source.ids.device).manual_seed(0)
    temperature = float(objective.reads_gumbel)  # without noise such a model writes what it never saw
    method = None
    if objective.model.config.decoder.autoregressive and batch.whole is None:
        temperature, method = 1.0, LeftToRight(ends=False)
    written = generate(
        objective, batch.source, action=batch.action, temperature=temperature, generator=drawn, method=method
    ).rows()
    texts = zip(shown_sources(batch, tokenizer), batch.target.ids.tolist(), written, strict=True)
    shown = [(source, tokenizer.decode(target), tokenizer.decode(ids)) for source, target, ids in texts]
    return shown[:n_samples]


def _positions(x: Tensor, layout: Layout, *, packed: bool = True) -> Tensor:
    """(N, ...) of the positions that hold text, in float32 at least."""
    return (x if packed and layout.index is not None else x[layout.mask]).float()


def _copy_of_source(objective: JepalmObjective, views: Views) -> Tensor:
    """The source's embedding at the place of each target embedding, as targets are, padded (B, T', D')."""
    embeddings, layout = objective.as_targets(views.source, views.source_layout)
    if views.target_layout.given:
        return views.target_layout.pad(picked(embeddings, layout, views.target_layout))
    width = views.embedding_layout.mask.shape[1]
    source = layout.pad(embeddings)
    mean = layout.mean(embeddings)[:, None]  # (B, 1, D')
    filled = torch.where(layout.mask[..., None], source, mean)[:, :width]  # (B, <=T', D')
    missing = width - filled.shape[1]
    return torch.cat((filled, mean.expand(-1, missing, -1)), 1) if missing > 0 else filled
