"""Held-out quality while training: every figure on the same held-out pairs, beside its baselines."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from jepalm.data.batches import Batch
from jepalm.data.tokenizer import TextTokenizer
from jepalm.evaluation.validation.causal import causal_samples, measure_causal, shown_sources
from jepalm.evaluation.validation.coupling import Matches
from jepalm.evaluation.validation.exact_match import Write, exact_match, writes_at_once, writes_token_by_token
from jepalm.evaluation.validation.health import effective_rank, mean_std, r2
from jepalm.evaluation.validation.spans import gap_samples, local_sums
from jepalm.generation.one_pass import generate
from jepalm.model.layout import Layout
from jepalm.objective import CausalObjective, Objective
from jepalm.objective.autoencoder import divergence
from jepalm.objective.encoded import Views
from jepalm.objective.jepalm import JepalmObjective
from jepalm.objective.spans import picked
from jepalm.training.trainer import HeldOutResult


@dataclass
class _Sums:
    """Running sums over batches, float64."""

    values: dict[str, float] = field(default_factory=dict)

    def add(self, **values: Tensor | float) -> None:
        for name, value in values.items():
            self.values[name] = self.values.get(name, 0.0) + float(value)

    def __getitem__(self, name: str) -> float:
        return self.values[name]


class HeldOut:
    """Measures an objective on the same held-out batches every time, and shows what it writes.

    Args:
        batches: held-out batches.
        tokenizer: turns ids back into text.
        n_samples: how many of the first batch's sources get the text that the model writes.
        exact: whether to count the targets that the model writes exactly, of pairs with one right answer.
    """

    def __init__(
        self, batches: list[Batch], tokenizer: TextTokenizer, n_samples: int, *, exact: bool = False
    ) -> None:
        self.batches, self.tokenizer, self.n_samples, self.exact = batches, tokenizer, n_samples, exact

    def __call__(self, objective: Objective) -> HeldOutResult:
        """Measure as the family asks; the caller has set evaluation mode and precision."""
        if isinstance(objective, CausalObjective):
            values = measure_causal(objective, self.batches, self.tokenizer)
            values |= self._exact_match(writes_token_by_token(objective))
            samples = causal_samples(objective, self.batches[0], self.tokenizer, self.n_samples)
            return HeldOutResult(values, samples)
        assert isinstance(objective, JepalmObjective)
        values = measure(objective, self.batches) | self._exact_match(writes_at_once(objective))
        return HeldOutResult(values, self._samples(objective))

    def _exact_match(self, write: Write) -> dict[str, float]:
        return {"validation/exact_match": exact_match(self.batches, write)} if self.exact else {}

    def _samples(self, objective: JepalmObjective) -> list[tuple[str, str, str]]:
        if not self.n_samples:
            return []
        batch, decode = self.batches[0], self.tokenizer.decode
        if batch.target.places is not None:
            return gap_samples(objective, batch, self.tokenizer, self.n_samples)
        drawn = torch.Generator(batch.source.ids.device).manual_seed(0)
        temperature = float(objective.reads_gumbel)  # without noise such a model writes what it never saw
        written = generate(
            objective, batch.source, action=batch.action, temperature=temperature, generator=drawn
        ).rows()
        read = shown_sources(batch, self.tokenizer)
        texts = zip(read, batch.target.ids.tolist(), written, strict=True)
        return [(source, decode(target), decode(row)) for source, target, row in texts][: self.n_samples]


def measure(objective: JepalmObjective, batches: list[Batch]) -> dict[str, float]:
    """Measure an objective on held-out batches.

    Returns:
        `validation/...` figures: `loss`, the terms that count as configured; reconstruction CE (nats
        a token) and accuracy from the trained encoder's embeddings of the target; generation CE and
        accuracy from predicted ones; `embedding`, the squared distance to the target embeddings summed over
        dimensions (and `embedding_distance`, where another is configured), beside that of predicting the
        held-out mean target and of copying the source's embedding at the same place (its mean where the
        source is shorter; in a gap, that of the mask token there; of latents, the source's own); R2
        against both; length errors in positions, of a classification those of the expected length, beside
        its cross-entropy and the accuracy of its likeliest length; cross-entropy and accuracy of a local
        head; standard deviation and effective rank of target and predicted embeddings; of a variational
        encoder `kl` in nats a latent, and `posterior_std`, the mean over dimensions; of layers that guess
        `intermediate_logits_ce`, the mean over them; and with a teacher what `Matches` says.
    """
    sums = _Sums()
    matches = None if objective.coupling is None else Matches(objective)
    targets, predictions = [], []
    for batch in batches:
        noise = None if matches is None else matches.noise(batch)
        views = objective.encode_and_predict(batch, noise=noise)
        layout, places = views.target_layout, views.embedding_layout
        target, predicted = _rows(views.target, places), _rows(views.predicted, places)  # (N', D')
        targets.append(target.cpu())
        predictions.append(predicted.cpu())
        copied = _rows(_copy_of_source(objective, views), places, packed=False)  # (N', D')
        ids = batch.target.ids[layout.mask]  # (N,)
        for name, embeddings in (("reconstruction", views.decodable), ("generation", views.predicted)):
            logits = _rows(objective.model.decoder(embeddings, layout), layout).float()  # (N, V)
            sums.add(
                **{
                    f"{name}_ce": F.cross_entropy(logits, ids, reduction="sum"),
                    f"{name}_right": (logits.argmax(-1) == ids).sum(),
                }
            )
        if matches is not None and noise is not None:
            matches.add(logits, batch, noise)
        costs = [
            F.cross_entropy(_rows(intermediate, layout), ids, reduction="sum")
            for intermediate in views.intermediate_logits
        ]
        if costs:
            sums.add(intermediate_logits_ce=torch.stack(costs).mean())
        sums.add(**local_sums(views, batch))
        sums.add(copy=(copied - target).square().sum(), embeddings=len(target))
        sums.add(tokens=len(ids), pairs=len(batch.target.lengths))
        if objective.config.embedding.distance != "mse":
            sums.add(distance=objective.distance(predicted, target).sum())
        if views.lengths is not None:
            error = views.lengths.float() - batch.target.lengths
            sums.add(length_abs=error.abs().sum(), length_square=error.square().sum())
        if objective.regularizer is not None:
            pairs = len(batch.target.lengths)
            sums.add(regularizer=objective.regularizer(views.encoded, places) * pairs)
        if views.posterior.log_std is not None:
            nats = divergence(views.posterior, objective.config.kl.floor)  # (...)
            spread = views.posterior.log_std.exp().mean(-1)  # (...)
            sums.add(kl=places.total(nats), posterior_std=places.total(spread))
        if views.length_logits is not None:
            logits, lengths = views.length_logits.float(), batch.target.lengths
            sums.add(length_ce=F.cross_entropy(logits, lengths, reduction="sum"))
            sums.add(length_right=(logits.argmax(-1) == lengths).sum())
    figures = _figures(objective, sums, torch.cat(targets), torch.cat(predictions))
    return figures | ({} if matches is None else matches.figures())


def _figures(objective: JepalmObjective, sums: _Sums, target: Tensor, predicted: Tensor) -> dict[str, float]:
    tokens, embeddings, pairs = sums["tokens"], sums["embeddings"], sums["pairs"]
    error = (predicted - target).square().sum()
    around_mean = (target - target.mean(0)).square().sum()
    terms = {
        "reconstruction": sums["reconstruction_ce"] / tokens,
        "embedding": float(error) / embeddings,
        "generation": sums["generation_ce"] / tokens,
    }
    figures = {
        "reconstruction_ce": terms["reconstruction"],
        "reconstruction_accuracy": sums["reconstruction_right"] / tokens,
        "generation_ce": terms["generation"],
        "generation_accuracy": sums["generation_right"] / tokens,
        "embedding": terms["embedding"],
        "embedding_mean": float(around_mean) / embeddings,
        "embedding_copy": sums["copy"] / embeddings,
        "r2": r2(error, around_mean),
        "r2_copy": r2(error, torch.tensor(sums["copy"])),
        "embedding_std": mean_std(target),
        "effective_rank": effective_rank(target),
        "predicted_std": mean_std(predicted),
        "predicted_effective_rank": effective_rank(predicted),
    }
    if "distance" in sums.values:
        terms["embedding"] = figures["embedding_distance"] = sums["distance"] / embeddings
    if "kl" in sums.values:
        terms["kl"] = figures["kl"] = sums["kl"] / embeddings
        figures["posterior_std"] = sums["posterior_std"] / embeddings
    if "regularizer" in sums.values:
        terms["regularizer"] = figures["regularizer"] = sums["regularizer"] / pairs
    if "intermediate_logits_ce" in sums.values:
        terms["intermediate_logits"] = figures["intermediate_logits_ce"] = (
            sums["intermediate_logits_ce"] / tokens
        )
    if "local_ce" in sums.values:
        terms["local"] = sums["local_ce"] / tokens
        figures |= {"local_ce": terms["local"], "local_accuracy": sums["local_right"] / tokens}
    if "length_square" in sums.values:
        terms["length"] = sums["length_square"] / pairs
        figures |= {"length_mae": sums["length_abs"] / pairs, "length_mse": terms["length"]}
    if "length_ce" in sums.values:
        terms["length"] = sums["length_ce"] / pairs
        figures |= {"length_ce": terms["length"], "length_accuracy": sums["length_right"] / pairs}
    loss = sum(weight * terms[name] for name, weight in objective.counted.items())
    return {f"validation/{name}": value for name, value in {"loss": loss, **figures}.items()}


def _rows(x: Tensor, layout: Layout, *, packed: bool = True) -> Tensor:
    """(N, ...) rows of the positions that hold text, in float32 at least."""
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
