"""Held-out quality of a causal model while training: the next token, and what it writes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from jepalm.data.batches import Batch, Tokens
from jepalm.data.tokenizer import TextTokenizer
from jepalm.evaluation.validation.exact_match import prompts
from jepalm.evaluation.validation.loss import held_out_loss
from jepalm.evaluation.validation.views import view_metrics
from jepalm.generation.token_by_token import generate
from jepalm.objective.causal import CausalObjective
from jepalm.objective.terms import IGNORE
from jepalm.objective.tube import draw_triples, tube_cosine

SAMPLE_TOKENS = 128
"""Most tokens that a sample of a window has; those of a pair have the target's length."""


def measure_causal(
    objective: CausalObjective, batches: list[Batch], tokenizer: TextTokenizer
) -> dict[str, float]:
    """Measure a causal model on held-out batches.

    Returns:
        `validation/...` metrics: `loss` as trained, each term times the share of steps that count it;
        `next_token_ce` in nats a learned token and `next_token_accuracy`; `nats_per_character`, the same
        nats over the characters of the learned tokens, which compares tokenizers (an end token costs
        nats and has no character); `tube_cosine` of the steps between three states of a text, drawn the same
        at every call (none where every text is too short); and of pairs what `view_metrics` says.
    """
    nats = right = tokens = characters = straight = triples = 0.0
    draws = torch.Generator(batches[0].target.ids.device).manual_seed(0)
    for batch in batches:
        read = objective.sequences(batch)
        learned = read.labels != IGNORE  # (B, T)
        hidden, _ = objective.read(read)  # (B, T, D)
        logits = objective.model.logits(hidden[learned]).float()  # (N, V)
        labels = read.labels[learned]  # (N,)
        nats += float(F.cross_entropy(logits, labels, reduction="sum"))
        right += float((logits.argmax(-1) == labels).sum())
        tokens += len(labels)
        characters += count_characters(labels, tokenizer)
        long = read.lengths >= 3  # (B,)
        straight += float((tube_cosine(hidden, draw_triples(read.lengths, draws)) * long).sum())
        triples += float(long.sum())
    found = {
        "next_token_ce": nats / tokens,
        "next_token_accuracy": right / tokens,
        "nats_per_character": nats / max(1.0, characters),
        **(view_metrics(objective, batches) if batches[0].whole is not None else {}),
    }
    if triples:
        found["tube_cosine"] = straight / triples
    if "tube" in objective.all_terms:
        found["tube"] = 1 - found.get("tube_cosine", 1.0)
    values = {f"validation/{name}": value for name, value in found.items()}
    weights = {name: weight * objective.probability(name) for name, weight in objective.counted.items()}
    return held_out_loss(objective, values, weights) | values


def count_characters(ids: Tensor, tokenizer: TextTokenizer) -> int:
    """Characters that token ids (N,) stand for; with a character tokenizer `<unk>` is one."""
    unknown = int((ids == tokenizer.UNK).sum()) if tokenizer.name == "char" else 0
    return len(tokenizer.decode(ids.tolist())) + unknown


def causal_samples(
    objective: CausalObjective, batch: Batch, tokenizer: TextTokenizer, n_samples: int
) -> list[tuple[str, str, str]]:
    """(source, target, generated) texts of the first pairs, most likely tokens.

    Of a window the first half is the source and the second half the target.
    """
    if not n_samples:
        return []
    if batch.whole is None:
        rows = objective.sequences(batch).ids[:n_samples]  # (B, T)
        half = max(1, rows.shape[1] // 2)
        source = Tokens(rows[:, :half], batch.source.lengths[:n_samples] * 0 + half)
        target = rows[:, half : half + SAMPLE_TOKENS]
        length, end = max(1, target.shape[1]), None
    else:
        source = prompts(batch.first(n_samples))
        target = batch.target.ids[:n_samples]
        length, end = target.shape[1], TextTokenizer.END
    written = generate(objective, source, length=length, end=end).rows
    decode = tokenizer.decode
    windows = batch.whole is None
    shown = [decode(row) for row in source.ids.tolist()] if windows else shown_sources(batch, tokenizer)
    texts = zip(shown[:n_samples], target.tolist(), written, strict=True)
    return [(read, decode(right), decode(made)) for read, right, made in texts]


def shown_sources(batch: Batch, tokenizer: TextTokenizer) -> list[str]:
    """The sources of a batch as text, each with its action on a line of its own."""
    texts = [tokenizer.decode(row) for row in batch.source.ids.tolist()]
    if batch.action is None:
        return texts
    actions = [tokenizer.decode(row) for row in batch.action.ids.tolist()]
    return [f"{text}\n> {action}" for text, action in zip(texts, actions, strict=True)]
