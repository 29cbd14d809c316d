"""Held-out quality of a model that fills gaps: what its local head knows, and what it writes."""

from __future__ import annotations

import itertools

import torch.nn.functional as F

from jepalm.data.batches import Batch, Tokens
from jepalm.data.tokenizer import TextTokenizer
from jepalm.generation.infill import infill
from jepalm.objective.encoded import Views
from jepalm.objective.jepalm import JepalmObjective
from jepalm.objective.spans import whole_text
from jepalm.objective.terms import IGNORE


def local_sums(views: Views, batch: Batch) -> dict[str, float]:
    """Nats and right tokens of the local head at the hidden places, summed; nothing without one."""
    if views.local_logits is None:
        return {}
    labels = JepalmObjective.labels(batch.target, views.target_layout).flatten()
    logits = views.local_logits.float().flatten(0, -2)  # (N, V)
    return {
        "local_ce": float(F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")),
        "local_right": float((logits.argmax(-1) == labels).sum()),
    }


def gap_samples(
    objective: JepalmObjective, batch: Batch, tokenizer: TextTokenizer, n_samples: int
) -> list[tuple[str, str, str]]:
    """(text with `_` for hidden tokens, real text, filled text) of the first texts, most likely tokens."""
    if not n_samples:
        return []
    written = infill(objective, batch.source, batch.target, never=tokenizer.special_ids)
    filled = whole_text(batch.source, Tokens(written.ids, written.lengths, batch.target.places))
    real = whole_text(batch.source, batch.target)
    texts = zip(batch.source.ids.tolist(), real.ids.tolist(), filled.ids.tolist(), strict=True)
    show = tokenizer.show
    return [(show(read), show(right), show(made)) for read, right, made in itertools.islice(texts, n_samples)]
