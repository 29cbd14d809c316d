"""What a model makes of real pairs before any text is drawn: metrics of its decoder and its embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jepalm.data.batches import Batch, Tokens, pad_rows
from jepalm.data.ngram import NGram
from jepalm.evaluation.bootstrap import percentile_interval, resampled
from jepalm.evaluation.rows import MetricRow, mean_row, ratio_row
from jepalm.evaluation.validation.exact_likelihood import RANGES
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
from jepalm.objective.terms import IGNORE, token_nats

_PAIRS_AT_ONCE = 64
_TOLERANCE_BATCHES = 4

Pairs = Sequence[tuple[list[int], list[int]]]
"""Token ids of sources and targets."""
PairSums = dict[str, Tensor]
"""Sums over the target positions of each pair, (N,) float64, and mean embeddings, (N, D')."""


def pair_batches(
    pairs: Pairs, others: NDArray[np.int64], hardware: Hardware
) -> tuple[list[Batch], list[Tokens]]:
    """Batches of pairs, and for each the sources of other pairs, `others` (N,), which are read instead."""
    batches, other_sources = [], []
    for at in range(0, len(pairs), _PAIRS_AT_ONCE):
        part = slice(at, at + _PAIRS_AT_ONCE)
        source, target = (pad_rows(list(rows), hardware.device) for rows in zip(*pairs[part], strict=True))
        n_target, n_read = int(target.lengths.sum()), int(source.lengths.sum())
        batches.append(
            Batch(source, target, None, len(source.lengths), n_target, n_read, whole=None, n_whole=0)
        )
        other_sources.append(pad_rows([pairs[other][0] for other in others[part]], hardware.device))
    return batches, other_sources


def decoder_controls(
    ngram: NGram,
    training: NDArray[np.int64],
    prompts: list[list[int]],
    targets: list[list[int]],
    positions: list[list[int]] | None = None,
) -> tuple[dict[str, float], dict[str, float]]:
    """CE and accuracy on targets of what needs no model.

    Args:
        ngram: sees the true text before each token.
        training: (T,) token ids of the training text.
        prompts: token ids before each target.
        targets: token ids.
        positions: of each target, those that count; all when None.
    """
    places = [list(range(len(target))) for target in targets] if positions is None else positions

    def ce(model: NGram) -> float:
        nats = model.nll(prompts, targets)
        return float(np.concatenate([row[at] for row, at in zip(nats, places, strict=True)]).mean())

    most_frequent = int(np.bincount(training, minlength=ngram.vocab_size).argmax())
    tokens = np.concatenate([np.array(row)[at] for row, at in zip(targets, places, strict=True)])
    unigram = NGram.fit(training, ngram.vocab_size, 1)
    return (
        {"training unigram": ce(unigram), f"{ngram.order}-gram that sees the true past": ce(ngram)},
        {"always the most frequent token": float((tokens == most_frequent).mean())},
    )


@torch.no_grad()
def measure_embeddings(
    objective: JepalmObjective,
    batches: list[Batch],
    other_sources: list[Tokens],
    hardware: Hardware,
    *,
    seed: int,
    ce_controls: dict[str, float],
    accuracy_controls: dict[str, float],
) -> list[MetricRow]:
    """Measure reconstruction, generation and the geometry of embeddings on batches of pairs.

    Args:
        objective: in evaluation mode.
        batches: two pairs or more in all.
        other_sources: for each batch the sources that are read instead of its own.
        hardware: where and how to compute.
        seed: of the noise and the resampling.
        ce_controls: what else predicts the targets, in nats a token.
        accuracy_controls: what else predicts the targets, as a share.
    """
    texts = [
        tuple(row[:n])
        for batch in batches
        for row, n in zip(batch.target.ids.tolist(), batch.target.lengths.tolist(), strict=True)
    ]
    with hardware.autocast():
        validation = measure(objective, batches)
        sums = pair_sums(objective, batches, other_sources)
        tolerated = tolerance(_NoisyDecoder(objective, batches[:_TOLERANCE_BATCHES], seed))
    return [
        *_decoder_rows(sums, seed, ce_controls, accuracy_controls),
        *_embedding_rows(sums, validation, tolerated, texts, seed),
    ]


def pair_sums(objective: JepalmObjective, batches: list[Batch], other_sources: list[Tokens]) -> PairSums:
    """Run the model over batches of pairs, each also with other pairs' sources.

    Returns:
        of each pair `tokens`; `embeddings`, as many, or fewer where they are latents; nats of the decoder
        (`..._ce`) and tokens it gets right (`..._right`) on embeddings of the target (`reconstruction`), on
        predicted ones (`generation`) and on those predicted from another pair's source (`other_source`); of
        an autoregressive decoder also on the mean predicted embedding of the batch (`mean_embedding`), and of
        `RANGES` of positions the tokens (`tokens_FIRST_LAST`) and these nats (`..._ce_FIRST_LAST`);
        `error`, squared distance of predicted to target embeddings; `around_mean`, that of target embeddings
        to their mean over all pairs; and the means of `source` (as it would be of a target), `target` and
        `predicted` embeddings.
    """
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
        if views.context is not None:
            mean = (places.pad(views.predicted) * places.mask[..., None]).sum((0, 1)) / places.mask.sum()
            read["mean_embedding"] = mean.expand_as(views.predicted)
            for first, last in RANGES:
                part[f"tokens_{first}_{last}"] = layout.mask[:, first - 1 : last].sum(1)
        for name, embeddings in read.items():
            logits = objective.decode(embeddings, layout, views.context).float()  # (..., V)
            nats = token_nats(logits, labels)  # (...)
            part[f"{name}_ce"] = _sums(layout, nats)
            for first, last in RANGES if views.context is not None else ():
                padded = layout.pad(nats) * layout.mask  # (B, T)
                part[f"{name}_ce_{first}_{last}"] = padded[:, first - 1 : last].sum(1)
            part[f"{name}_right"] = _sums(layout, logits.argmax(-1) == labels)
        found.append({name: value.cpu().double() for name, value in part.items()})
    joined = {name: torch.cat([part[name] for part in found]) for name in found[0]}
    total, squares, embeddings = joined.pop("total"), joined.pop("squares"), joined["embeddings"]
    mean = total.sum(0) / embeddings.sum()  # (D',)
    joined["around_mean"] = squares - 2 * total @ mean + embeddings * mean.square().sum()
    return joined


class _NoisyDecoder:
    """Accuracy of the decoder on target embeddings with the same noise at every strength."""

    def __init__(self, objective: JepalmObjective, batches: list[Batch], seed: int) -> None:
        self._objective = objective
        self._inputs = []
        generator = torch.Generator().manual_seed(seed)
        for batch in batches:
            layout = objective.layout(batch.target)
            places = objective.embedding_layout(layout)
            target = objective.encode_target(batch, layout, noisy=False).embeddings  # (..., D')
            padded = torch.randn(*places.mask.shape, target.shape[-1], generator=generator)  # (B, T', D')
            noise = places.pack(padded.to(target.device))  # (..., D')
            context = None
            if objective.model.config.decoder.autoregressive:
                context = objective.decoder_context(batch, *objective.encode_source(batch.source))
            labels = objective.labels(batch.target, layout)
            self._inputs.append((target.float(), noise, layout, labels, context))

    def __call__(self, sigma: float) -> float:
        right = n = 0
        for target, noise, layout, labels, context in self._inputs:
            logits = self._objective.decode(target + sigma * noise, layout, context)
            right += int((logits.argmax(-1) == labels).sum())
            n += int((labels != IGNORE).sum())
        return right / n


def _decoder_rows(
    sums: PairSums, seed: int, ce_controls: dict[str, float], accuracy_controls: dict[str, float]
) -> list[MetricRow]:
    """Cross-entropy and accuracy of the decoder on target and on predicted embeddings."""
    measured: list[tuple[str, Tensor, dict[str, float]]] = [
        ("reconstruction_ce", sums["reconstruction_ce"], {}),
        ("reconstruction_accuracy", sums["reconstruction_right"], {}),
        ("generation_ce", sums["generation_ce"], ce_controls),
        ("generation_accuracy", sums["generation_right"], accuracy_controls),
        ("other_source_ce", sums["other_source_ce"] - sums["generation_ce"], {"source not read": 0.0}),
    ]
    if "mean_embedding_ce" in sums:
        worth = sums["mean_embedding_ce"] - sums["generation_ce"]
        measured.append(("mean_embedding_ce", worth, {"embedding not read": 0.0}))
    tokens = sums["tokens"].numpy()
    rows = [
        ratio_row(f"decoder/{name}", {"model": (values.numpy(), tokens)}, seed=seed, controls=controls)
        for name, values, controls in measured
    ]
    for first, last in RANGES:
        where = f"{first}_{last}"
        if f"tokens_{where}" not in sums or not (count := sums[f"tokens_{where}"]).any():
            continue
        nats = {name: sums[f"{name}_ce_{where}"] for name in ("generation", "other_source", "mean_embedding")}
        controls = {
            "another source's embeddings": float(nats["other_source"].sum() / count.sum()),
            "their mean": float(nats["mean_embedding"].sum() / count.sum()),
        }
        parts = {"model": (nats["generation"].numpy(), count.numpy())}
        rows.append(ratio_row(f"decoder/generation_ce_{where}", parts, seed=seed, controls=controls))
    return rows


def _embedding_rows(
    sums: PairSums, validation: dict[str, float], tolerated: float, texts: list[tuple[int, ...]], seed: int
) -> list[MetricRow]:
    """How much the predictor explains, what the decoder tolerates, and how the embeddings lie.

    Args:
        sums: of the pairs.
        validation: what `measure` says of them.
        tolerated: noise that the decoder tolerates.
        texts: token ids of each target; equal ones count as each other's retrieval.
        seed: of the resampling.
    """
    source, target, predicted = sums["source"], sums["target"], sums["predicted"]
    embeddings, error, around_mean = (sums[n].numpy() for n in ("embeddings", "error", "around_mean"))
    dim = target.shape[1]
    numbers: dict[tuple[int, ...], int] = {}
    labels = [numbers.setdefault(text, len(numbers)) for text in texts]
    total, squared = float(around_mean.sum()), error / dim
    copy_error = validation["validation/embedding_copy"] * embeddings.sum()
    cosine, cosine_of_source = (
        paired_minus_unpaired_cosine(queries, target).numpy() for queries in (predicted, source)
    )
    retrieved, by_source = (retrieval_at_1(queries, target, labels) for queries in (predicted, source))
    target_std = validation["validation/embedding_std"]

    def model_row(
        name: str, value: float, controls: dict[str, float], draws: NDArray[np.float64] | None = None
    ) -> MetricRow:
        interval = None if draws is None else percentile_interval(draws)
        return MetricRow(f"embedding/{name}", {"model": value}, interval, controls)

    return [
        model_row(
            "r2",
            _share_explained(float(error.sum()), total),
            {"mean": 0.0, "copy of the source": _share_explained(copy_error, total)},
            1 - resampled(error, around_mean, seed=seed),
        ),
        model_row("r2_copy", validation["validation/r2_copy"], {}),
        model_row("tolerance", tolerated, {"the targets' own deviation": target_std}),
        model_row(
            "rms_error",
            float(np.sqrt(squared.sum() / embeddings.sum())),
            {},
            np.sqrt(resampled(squared, embeddings, seed=seed)),
        ),
        model_row("std", validation["validation/predicted_std"], {"target": target_std}),
        model_row(
            "effective_rank",
            validation["validation/predicted_effective_rank"],
            {"target": validation["validation/effective_rank"], "dimensions": float(dim)},
        ),
        mean_row(
            "embedding/cosine",
            {"model": cosine},
            seed=seed,
            controls={"copy of the source": float(cosine_of_source.mean())},
        ),
        mean_row(
            "embedding/retrieval",
            {"model": retrieved},
            seed=seed,
            controls={"chance": retrieval_chance(labels), "copy of the source": float(by_source.mean())},
        ),
    ]


def _sums(layout: Layout, x: Tensor) -> Tensor:
    """Sum over the positions of each text: packed or padded (...) to (B,)."""
    return (layout.pad(x).float() * layout.mask).sum(1)


def _share_explained(error: float, baseline_error: float) -> float:
    return 1 - error / baseline_error if baseline_error > 0 else float("nan")
