"""What a trained run makes of texts before any of it is text again: their embeddings, and predicted ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jepalm.data.batches import Tokens, pad_rows
from jepalm.errors import UsageError
from jepalm.generation.loading import TrainedModel
from jepalm.generation.one_pass import likely_lengths
from jepalm.generation.roll import padded_actions
from jepalm.generation.writer import TEXTS_AT_ONCE, Prompt
from jepalm.model.conditioning import Conditioning
from jepalm.model.layout import Layout


@torch.no_grad()
def encode(trained: TrainedModel, prompts: Sequence[Prompt], batch_size: int = TEXTS_AT_ONCE) -> list[Tensor]:
    """The embeddings of sources: (T, D) each, float32 on the CPU.

    Of a causal model they are the states of the last layer, each of which knows the text up to its token.
    """
    found: list[Tensor] = []
    for at in range(0, len(prompts), batch_size):
        tokens = _sources(trained, prompts[at : at + batch_size])
        with trained.hardware.autocast():
            if trained.is_causal:
                padded = trained.causal.model.hidden(tokens.ids)  # (B, T, D)
            else:
                embeddings, layout = trained.jepalm.encode_source(tokens)
                padded = layout.pad(embeddings)  # (B, T, D)
        found += _rows(padded, tokens.lengths)
    return found


@torch.no_grad()
def predict(
    trained: TrainedModel,
    prompts: Sequence[Prompt],
    length: int | None = None,
    batch_size: int = TEXTS_AT_ONCE,
) -> list[Tensor]:
    """The predicted embeddings of the targets of sources: (T', D') each, float32 on the CPU.

    T' is the number of target positions, or of latents where one holds several tokens. A causal model with
    latent prediction (LLM-JEPA) predicts one embedding of the other view, (1, D).

    Args:
        trained: the run.
        prompts: sources, with their actions where the run reads some.
        length: tokens of every target; the length head's likeliest when None, and the longest without one.
        batch_size: texts that are read at once.

    Raises:
        UsageError: a causal model without latent prediction, or a length out of range.
    """
    if trained.is_causal:
        return _predict_views(trained, prompts, length, batch_size)
    objective, longest = trained.jepalm, trained.config.model.target_len
    if length is not None and not 1 <= length <= longest:
        raise UsageError(f"length {length} is out of range", f"this model predicts 1 to {longest} tokens")
    found: list[Tensor] = []
    for at in range(0, len(prompts), batch_size):
        batch = prompts[at : at + batch_size]
        with trained.hardware.autocast():
            source = objective.encode_source(_sources(trained, batch))
            action = objective.encode_action(padded_actions(batch, trained.hardware.device))
            lengths = likely_lengths(objective, *source, action, length)[:, 0]  # (B,)
            target = Layout.of(lengths, int(lengths.max()), packed=objective.packing)
            predicted = objective.predict(*source, target, Conditioning(action))  # (..., D')
        places = objective.embedding_layout(target)
        found += _rows(places.pad(predicted), places.mask.sum(1))
    return found


def _predict_views(
    trained: TrainedModel, prompts: Sequence[Prompt], length: int | None, batch_size: int
) -> list[Tensor]:
    """The embedding of the other view that a causal model predicts from what it reads, (1, D) each."""
    objective = trained.causal
    if "latent" not in objective.all_terms:
        message = f"{trained.run.name} predicts no embeddings: it was trained without latent prediction"
        raise UsageError(message, "take a JEPALM, or train with objective.latent.weight=1")
    if length is not None:
        raise UsageError("a causal model predicts one embedding a text", "leave the length out")
    found: list[Tensor] = []
    for at in range(0, len(prompts), batch_size):
        batch = prompts[at : at + batch_size]
        source, action = _sources(trained, batch), padded_actions(batch, trained.hardware.device)
        views = objective.packed([source, *([] if action is None else [action])], [])
        with trained.hardware.autocast():
            hidden = objective.model.hidden(views.ids, segments=views.segments)  # (B, T, D)
            predicted = objective.predicted(views, hidden)  # (B, D)
        found += [row[None].float().cpu() for row in predicted]
    return found


def _sources(trained: TrainedModel, prompts: Sequence[Prompt]) -> Tokens:
    return pad_rows([prompt.source for prompt in prompts], trained.hardware.device)


def _rows(padded: Tensor, lengths: Tensor) -> list[Tensor]:
    """The rows of each text, float32 on the CPU."""
    rows = zip(padded.float().cpu(), lengths.tolist(), strict=True)
    return [row[:length] for row, length in rows]
