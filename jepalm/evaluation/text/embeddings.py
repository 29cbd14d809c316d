"""What a model makes of pairs before any text is drawn: the decoder's figures and the embeddings' figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from jepalm.data.batches import Batch, Tokens, pad_rows
from jepalm.evaluation.bootstrap import Interval, percentile_interval, resampled
from jepalm.evaluation.rows import Row
from jepalm.evaluation.validation.geometry import (
    paired_minus_unpaired_cosine,
    retrieval_at_1,
    retrieval_chance,
    tolerance,
)
from jepalm.evaluation.validation.jepalm import measure
from jepalm.hardware import Hardware
from jepalm.model.layout import Layout
from jepalm.objective.jepalm import JepalmObjective
from jepalm.objective.terms import IGNORE

_PAIRS_AT_ONCE = 64
_TOLERANCE_BATCHES = 4

Pairs = Sequence[tuple[list[int], list[int]]]
"""Token ids of sources and targets."""


@dataclass(frozen=True)
class PairSums:
    """Sums over the target positions of each pair, (N,) float64, and mean embeddings, (N, D').

    Attributes:
        tokens: target positions.
        embeddings: target embeddings: as many, or fewer where they are latents.
        reconstruction_ce: nats of the decoder on the trained encoder's embeddings of the target.
        reconstruction_right: tokens it gets right.
        generation_ce: nats of the decoder on predicted embeddings.
        generation_right: tokens it gets right.
        other_source_ce: nats of the decoder on embeddings predicted from another pair's source.
        error: squared distance of predicted to target embeddings.
        around_mean: squared distance of target embeddings to their mean over all pairs.
        source: mean source embedding, as it would be of a target.
        target: mean target embedding.
        predicted: mean predicted embedding.
    """

    tokens: NDArray[np.float64]
    embeddings: NDArray[np.float64]
    reconstruction_ce: NDArray[np.float64]
    reconstruction_right: NDArray[np.float64]
    generation_ce: NDArray[np.float64]
    generation_right: NDArray[np.float64]
    other_source_ce: NDArray[np.float64]
    error: NDArray[np.float64]
    around_mean: NDArray[np.float64]
    source: Tensor
    target: Tensor
    predicted: Tensor


@torch.no_grad()
def measure_embeddings(
    objective: JepalmObjective,
    pairs: Pairs,
    others: NDArray[np.int64],
    hardware: Hardware,
    *,
    seed: int,
    ce_controls: dict[str, float],
    accuracy_controls: dict[str, float],
) -> list[Row]:
    """Measure reconstruction, generation and the geometry of embeddings on pairs.

    Args:
        objective: in evaluation mode.
        pairs: two or more.
        others: (N,) for each pair another one, whose source is read instead.
        hardware: where and how to compute.
        seed: of the noise and the resampling.
        ce_controls: what else predicts the targets, in nats a token.
        accuracy_controls: what else predicts the targets, as a share.
    """
    parts = [slice(at, at + _PAIRS_AT_ONCE) for at in range(0, len(pairs), _PAIRS_AT_ONCE)]
    return measure_batches(
        objective,
        [_batch(pairs[part], hardware) for part in parts],
        [pad_rows([pairs[other][0] for other in others[part]], hardware.device) for part in parts],
        hardware,
        seed=seed,
        ce_controls=ce_controls,
        accuracy_controls=accuracy_controls,
    )


@torch.no_grad()
def measure_batches(
    objective: JepalmObjective,
    batches: list[Batch],
    other_sources: list[Tokens],
    hardware: Hardware,
    *,
    seed: int,
    ce_controls: dict[str, float],
    accuracy_controls: dict[str, float],
) -> list[Row]:
    """Measure batches, each beside the sources that are read instead; else as `measure_embeddings`."""
    targets = [
        row[:n]
        for batch in batches
        for row, n in zip(batch.target.ids.tolist(), batch.target.lengths.tolist(), strict=True)
    ]
    with hardware.autocast():
        whole = measure(objective, batches)
        sums = pair_sums(objective, batches, other_sources)
        tolerated = tolerance(_NoisyDecoder(objective, batches[:_TOLERANCE_BATCHES], seed))
    return [
        *_decoder_rows(sums, seed, ce_controls, accuracy_controls),
        *_embedding_rows(sums, whole, tolerated, targets, seed),
    ]


def pair_sums(objective: JepalmObjective, batches: list[Batch], other_sources: list[Tokens]) -> PairSums:
    """Run the model over batches of pairs, each also with other pairs' sources."""
    found: list[dict[str, Tensor]] = []
    for batch, other in zip(batches, other_sources, strict=True):
        views = objective.encode_and_predict(batch)
        layout, places = views.target_layout, views.embedding_layout
        misled = objective.predict(*objective.encode_source(other), layout)
        target = places.pad(views.target).float() * places.mask[..., None]  # (B, T', D')
        source, source_places = objective.as_targets(views.source, views.source_layout)  # (..., D')
        part = {
            "tokens": batch.target.lengths,
            "embeddings": places.mask.sum(1),
            "error": _sums(places, (views.predicted.float() - views.target.float()).square().sum(-1)),
            "total": target.sum(1),  # (B, D')
            "squares": target.square().sum((1, 2)),  # (B,)
            "source": source_places.mean(source),  # (B, D')
            "target": places.mean(views.target),  # (B, D')
            "predicted": places.mean(views.predicted),  # (B, D')
        }
        labels = objective.labels(batch.target, layout)
        read = {"reconstruction": views.decodable, "generation": views.predicted, "other_source": misled}
        for name, embeddings in read.items():
            logits = objective.model.decoder(embeddings, layout).float()  # (..., V)
            nats = F.cross_entropy(
                logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORE, reduction="none"
            ).view(labels.shape)
            part[f"{name}_ce"] = _sums(layout, nats)
            part[f"{name}_right"] = _sums(layout, logits.argmax(-1) == labels)
        found.append({name: value.cpu().double() for name, value in part.items()})
    joined = {name: torch.cat([part[name] for part in found]) for name in found[0]}
    total, embeddings = joined["total"], joined["embeddings"]
    mean = total.sum(0) / embeddings.sum()  # (D',)
    around_mean = joined["squares"] - 2 * total @ mean + embeddings * mean.square().sum()
    return PairSums(
        tokens=joined["tokens"].numpy(),
        embeddings=embeddings.numpy(),
        reconstruction_ce=joined["reconstruction_ce"].numpy(),
        reconstruction_right=joined["reconstruction_right"].numpy(),
        generation_ce=joined["generation_ce"].numpy(),
        generation_right=joined["generation_right"].numpy(),
        other_source_ce=joined["other_source_ce"].numpy(),
        error=joined["error"].numpy(),
        around_mean=around_mean.numpy(),
        source=joined["source"],
        target=joined["target"],
        predicted=joined["predicted"],
    )


class _NoisyDecoder:
    """Accuracy of the decoder on target embeddings with the same noise at every strength."""

    def __init__(self, objective: JepalmObjective, batches: list[Batch], seed: int) -> None:
        self._objective = objective
        self._inputs = []
        generator = torch.Generator().manual_seed(seed)
        for batch in batches:
            target, layout, places = objective.embed(batch)
            padded = torch.randn(*places.mask.shape, target.shape[-1], generator=generator)  # (B, T', D')
            noise = places.pack(padded.to(target.device))  # (..., D')
            self._inputs.append((target.float(), noise, layout, objective.labels(batch.target, layout)))

    def __call__(self, sigma: float) -> float:
        right = n = 0
        for target, noise, layout, labels in self._inputs:
            logits = self._objective.model.decoder(target + sigma * noise, layout)
            right += int((logits.argmax(-1) == labels).sum())
            n += int((labels != IGNORE).sum())
        return right / n


def _decoder_rows(
    sums: PairSums, seed: int, ce_controls: dict[str, float], accuracy_controls: dict[str, float]
) -> list[Row]:
    """Cross-entropy and accuracy of the decoder on target and on predicted embeddings."""

    def row(
        name: str, figure: str, unit: str, values: NDArray[np.float64], controls: dict[str, float]
    ) -> Row:
        interval = percentile_interval(resampled(values, sums.tokens, seed=seed))
        value = float(values.sum() / sums.tokens.sum())
        return Row(f"decoder/{name}", figure, unit, {"model": value}, interval, controls)

    ce, accuracy = "CE on {} embeddings", "accuracy on {} embeddings"
    return [
        row("reconstruction_ce", ce.format("target"), "nats/token", sums.reconstruction_ce, {}),
        row("reconstruction_accuracy", accuracy.format("target"), "", sums.reconstruction_right, {}),
        row("generation_ce", ce.format("predicted"), "nats/token", sums.generation_ce, ce_controls),
        row(
            "generation_accuracy", accuracy.format("predicted"), "", sums.generation_right, accuracy_controls
        ),
        row(
            "other_source_ce",
            "CE from another source minus own",
            "nats/token",
            sums.other_source_ce - sums.generation_ce,
            {"source not read": 0.0},
        ),
    ]


def _embedding_rows(
    sums: PairSums, whole: dict[str, float], tolerated: float, targets: list[list[int]], seed: int
) -> list[Row]:
    """How much the predictor explains, what the decoder tolerates, and how the embeddings lie."""
    dim = sums.target.shape[1]
    codes: dict[tuple[int, ...], int] = {}
    labels = [codes.setdefault(tuple(target), len(codes)) for target in targets]
    squared = sums.error / dim
    copy_error = whole["validation/embedding_copy"] * sums.embeddings.sum()
    around_mean = float(sums.around_mean.sum())
    cosine = paired_minus_unpaired_cosine(sums.predicted, sums.target).numpy()
    copied = paired_minus_unpaired_cosine(sums.source, sums.target).numpy()
    found = retrieval_at_1(sums.predicted, sums.target, labels)
    by_source = retrieval_at_1(sums.source, sums.target, labels)
    predicted_std, target_std = whole["validation/predicted_std"], whole["validation/embedding_std"]
    predicted_rank, target_rank = (whole[f"validation/{which}effective_rank"] for which in ("predicted_", ""))

    def row(
        name: str,
        figure: str,
        unit: str,
        value: float,
        interval: Interval | None = None,
        controls: dict[str, float] | None = None,
    ) -> Row:
        return Row(f"embedding/{name}", figure, unit, {"model": value}, interval, controls or {})

    return [
        row(
            "r2",
            "R2 against the mean",
            "",
            _share_gone(float(sums.error.sum()), around_mean),
            percentile_interval(1 - resampled(sums.error, sums.around_mean, seed=seed)),
            {"mean": 0.0, "copy of the source": _share_gone(copy_error, around_mean)},
        ),
        row("r2_copy", "R2 against a copy of the source", "", whole["validation/r2_copy"]),
        row(
            "tolerance",
            "noise the decoder tolerates",
            "sd/dim",
            tolerated,
            None,
            {"the targets' own deviation": target_std},
        ),
        row(
            "rms_error",
            "the predictor's error",
            "rms/dim",
            float(np.sqrt(squared.sum() / sums.embeddings.sum())),
            percentile_interval(np.sqrt(resampled(squared, sums.embeddings, seed=seed))),
        ),
        row("std", "standard deviation, predicted", "", predicted_std, None, {"target": target_std}),
        row(
            "effective_rank",
            "effective rank, predicted",
            f"of {dim}",
            predicted_rank,
            None,
            {"target": target_rank},
        ),
        row(
            "cosine",
            "cosine, paired minus unpaired",
            "",
            float(cosine.mean()),
            percentile_interval(resampled(cosine, seed=seed)),
            {"copy of the source": float(copied.mean())},
        ),
        row(
            "retrieval",
            f"retrieval@1 of {len(labels):,}",
            "",
            float(found.mean()),
            percentile_interval(resampled(found, seed=seed)),
            {"chance": retrieval_chance(labels), "copy of the source": float(by_source.mean())},
        ),
    ]


def _batch(pairs: Pairs, hardware: Hardware) -> Batch:
    source, target = (pad_rows(list(texts), hardware.device) for texts in zip(*pairs, strict=True))
    n_read, n_target = int(source.lengths.sum()), int(target.lengths.sum())
    return Batch(source, target, None, len(pairs), n_target, n_read, whole=None, n_whole=0)


def _sums(layout: Layout, x: Tensor) -> Tensor:
    """Sum over the positions of each text: packed or padded (...) to (B,)."""
    return (layout.pad(x).float() * layout.mask).sum(1)


def _share_gone(error: float, baseline_error: float) -> float:
    return 1 - error / baseline_error if baseline_error > 0 else float("nan")
