"""Evaluation of a run that fills gaps: what decoder and predictor make of hidden tokens, beside controls.

Whatever needs a continuation of a prompt is left out: a scorer that reads from the left would not see what
stands after a gap, and statistics and agreement of whole texts would mostly be those of the
visible text, which is given.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from jepalm.data.batches import Batch, Batches, Tokens
from jepalm.data.ngram import NGram
from jepalm.data.prepared import PreparedData, Split
from jepalm.data.text.spans import hide
from jepalm.errors import UsageError
from jepalm.evaluation.rows import PROMPTS, Evaluation
from jepalm.evaluation.settings import EvaluationSettings
from jepalm.evaluation.text.embeddings import decoder_controls, measure_embeddings
from jepalm.evaluation.text.held_out import read_training_text
from jepalm.generation.loading import TrainedModel
from jepalm.objective.spans import whole_text

ORDER = 5
TEXTS_AT_ONCE = 64
LEFT_OUT = "a run that fills gaps continues no prompt: no metrics of sampled text, no scorer, no Brier-n"


def evaluate_gaps(
    trained: TrainedModel, prepared: PreparedData, split: Split, settings: EvaluationSettings
) -> Evaluation:
    """Measure a run on held-out texts with gaps that neither the seed nor the run decides.

    Args:
        trained: the run.
        prepared: its data.
        split: where the texts come from.
        settings: how many texts, and the seed of the noise, the other texts and the resampling.

    Raises:
        UsageError: the split has fewer than two texts.
    """
    batches = gapped_batches(trained, split, settings.n_prompts or PROMPTS)
    n_texts = sum(len(batch.target.lengths) for batch in batches)
    if n_texts < 2:
        raise UsageError(f"the {split.name} split has one text, too few to evaluate", "prepare more text")
    training = read_training_text(prepared).ids
    texts = [row for batch in batches for row in whole_text(batch.source, batch.target).ids.tolist()]
    gaps = [batch.target.places for batch in batches if batch.target.places is not None]
    ce_controls, accuracy_controls = decoder_controls(
        NGram.fit(training, trained.tokenizer.vocab_size, ORDER),
        training,
        [[] for _ in texts],
        texts,
        [row for places in gaps for row in places.tolist()],
    )
    rows = measure_embeddings(
        trained.jepalm,
        batches,
        other_sources(batches, other_places(n_texts, settings.seed), split),
        trained.hardware,
        seed=settings.seed,
        ce_controls=ce_controls,
        accuracy_controls=accuracy_controls,
    )
    return Evaluation(
        run=trained.run.name,
        step=trained.checkpoint.step,
        split=split.name,
        n_prompts=n_texts,
        n_samples=0,
        temperature=0.0,
        seed=settings.seed,
        scorer="none",
        scored_by_ngram=False,
        baseline=None,
        training_tokens=len(training),
        rows=rows,
        by_position={},
        left_out=LEFT_OUT,
    )


def gapped_batches(trained: TrainedModel, split: Split, n_texts: int) -> list[Batch]:
    """Texts evenly spaced over a split, the same gaps in each at every call."""
    model = trained.config.model
    drawn = Batches(
        split,
        batch_size=1,
        source_len=model.source_len,
        target_len=model.target_len,
        seed=0,
        device=trained.hardware.device,
        spans=trained.config.data.spans,
    )
    singles = drawn.fixed(min(n_texts, drawn.n_pairs))
    return [_joined(singles[at : at + TEXTS_AT_ONCE]) for at in range(0, len(singles), TEXTS_AT_ONCE)]


def other_sources(batches: list[Batch], others: NDArray[np.int64], split: Split) -> list[Tokens]:
    """For each batch the sources of other texts, with the gaps of its own."""
    assert split.mask_id is not None
    texts = torch.cat([whole_text(batch.source, batch.target).ids for batch in batches])  # (N, T)
    found, start = [], 0
    for batch in batches:
        assert batch.target.places is not None
        chosen = torch.from_numpy(others[start : start + len(batch.target.lengths)]).to(texts.device)
        start += len(chosen)
        ids, _ = hide(texts[chosen], batch.target.places, split.mask_id)  # (B, T)
        found.append(Tokens(ids, batch.source.lengths, batch.source.places))
    return found


def other_places(n: int, seed: int) -> NDArray[np.int64]:
    """For each of n places another one, each once: a random cycle (Sattolo 1986)."""
    cycle = np.random.default_rng(seed).permutation(n)
    other = np.empty(n, np.int64)
    other[cycle] = np.roll(cycle, 1)
    return other


def _joined(batches: list[Batch]) -> Batch:
    """One batch of several, whose texts and gaps have the same sizes."""

    def view(parts: list[Tokens]) -> Tokens:
        ids, lengths = ([getattr(part, name) for part in parts] for name in ("ids", "lengths"))
        places = [part.places for part in parts if part.places is not None]
        return Tokens(torch.cat(ids), torch.cat(lengths), torch.cat(places))

    source, target = view([batch.source for batch in batches]), view([batch.target for batch in batches])
    return Batch(source, target, None, len(batches), target.ids.numel(), source.ids.numel())
