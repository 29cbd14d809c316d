"""A trained run that reads states and actions: how far an observed next state is from its prediction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from jepalm.data.batches import Batch, Tokens, pad_rows
from jepalm.data.tokenizer import TextTokenizer
from jepalm.evaluation.answers.questions import Question
from jepalm.evaluation.text.likelihood import CausalScorer
from jepalm.generation.loading import TrainedModel
from jepalm.generation.worlds.rollout import (
    Feedback,
    TextStates,
    decode_states,
    encode_states,
    latent_rollout,
    text_rollout,
)
from jepalm.generation.writers import writer_for
from jepalm.model.conditioning import Conditioning
from jepalm.model.decoder import DecoderContext
from jepalm.model.layout import Layout
from jepalm.objective.terms import IGNORE
from jepalm.objective.views import prompt_row

AT_ONCE = 64

Means = NDArray[np.float64]
"""(N, D')"""
Distances = dict[str, NDArray[np.float64]]
"""(N,) by kind: `embedding`, the objective's distance, mean over positions; `ce`, nats a token."""


@dataclass(frozen=True)
class _Compared:
    """Observed next states of a batch beside their predictions.

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


class ActionModel:
    """A run that reads actions; it reads text with its own tokenizer, and the end of what is too long."""

    def __init__(self, trained: TrainedModel) -> None:
        self.hardware, self._trained, self._writer = trained.hardware, trained, writer_for(trained)
        self._name, self._tokenizer, self._sizes = trained.run.name, trained.tokenizer, trained.config.model

    @property
    def kinds(self) -> tuple[str, ...]:
        """The distances that it has."""
        return ("ce",) if self._trained.is_causal else ("embedding", "ce")

    @torch.no_grad()
    def distances(self, transitions: Sequence[Question]) -> Distances:
        """How far the next state of each transition is from the predicted one, which is given its length."""
        if self._trained.is_causal:
            scorer = CausalScorer(self._name, self._trained.causal, self.hardware, TextTokenizer.END)
            states, actions, targets = self._tokens(transitions)
            read = zip(states, actions, strict=True)
            nats = scorer.nll([[*prompt_row(state), *action] for state, action in read], targets)
            return {"ce": np.array([row.mean() for row in nats])}
        objective = self._trained.jepalm
        found: list[Distances] = []
        for one in self._compared(transitions):
            labels = objective.labels(one.tokens, one.layout)
            with self.hardware.autocast():
                logits = objective.decode(one.predicted, one.layout, one.context).float()  # (..., V)
            costs = F.cross_entropy(
                logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORE, reduction="none"
            ).view(*labels.shape, 1)
            each = objective.distance(one.predicted, one.target)[..., None]  # (..., 1)
            means = {"embedding": one.places.mean(each), "ce": one.layout.mean(costs)}  # (B, 1)
            found.append({kind: _numpy(value[:, 0]) for kind, value in means.items()})
        return {kind: np.concatenate([part[kind] for part in found]) for kind in self.kinds}

    def means(self, transitions: Sequence[Question]) -> tuple[Means, Means]:
        """Mean target and mean predicted embedding of each next state, two of (N, D')."""
        parts = list(self._compared(transitions))
        targets = [_numpy(one.places.mean(one.target)) for one in parts]
        predictions = [_numpy(one.places.mean(one.predicted)) for one in parts]
        return np.concatenate(targets), np.concatenate(predictions)

    def positions(self, transitions: Sequence[Question]) -> tuple[Tensor, Tensor]:
        """Target and predicted embeddings of all positions, two of (N', D')."""
        parts = list(self._compared(transitions))
        targets = [one.places.pad(one.target)[one.places.mask].float().cpu() for one in parts]
        predictions = [one.places.pad(one.predicted)[one.places.mask].float().cpu() for one in parts]
        return torch.cat(targets), torch.cat(predictions)

    def roll(
        self, states: Sequence[str], actions: Sequence[Sequence[str]], feedback: Feedback
    ) -> list[list[str]]:
        """The texts of the states after each of k actions on each state.

        Raises:
            UsageError: a latent rollout of a run whose embeddings do not feed back.
        """
        found: list[list[str]] = [[] for _ in actions]
        for at in range(0, len(states), AT_ONCE):
            rows = slice(at, at + AT_ONCE)
            start, steps = self._states(states[rows]), [self._actions(step[rows]) for step in actions]
            for texts, after in zip(found, self._rolled(start, steps, feedback), strict=True):
                texts += map(self._tokenizer.decode, after)
        return found

    def _rolled(
        self, start: list[list[int]], steps: list[list[list[int]]], feedback: Feedback
    ) -> list[TextStates]:
        """Token ids of the states after each step."""
        if feedback == "text":
            return text_rollout(self._writer, start, steps, self._sizes.source_len)
        objective, device = self._trained.jepalm, self.hardware.device
        with self.hardware.autocast():
            states = encode_states(objective, pad_rows(start, device))
            latent = latent_rollout(objective, states, [pad_rows(step, device) for step in steps])
            texts = [decode_states(objective, after) for after in latent]
        return [[row[:n] for row, n in zip(t.ids.tolist(), t.lengths.tolist(), strict=True)] for t in texts]

    @torch.no_grad()
    def _compared(self, transitions: Sequence[Question]) -> Iterator[_Compared]:
        """Predict the embeddings of observed next states, batch by batch."""
        objective, device = self._trained.jepalm, self.hardware.device
        for at in range(0, len(transitions), AT_ONCE):
            parts = self._tokens(transitions[at : at + AT_ONCE])
            read, action, tokens = (pad_rows(part, device) for part in parts)
            layout = objective.layout(tokens)
            with self.hardware.autocast():
                act = objective.encode_action(action)
                source = objective.encode_source(read)
                predicted = objective.predict(*source, layout, Conditioning(act))
                target, places = objective.embed_targets(tokens)
                context = None
                if objective.model.config.decoder.autoregressive:
                    pairs = Batch(read, tokens, action, len(parts[0]), int(tokens.lengths.sum()))
                    context = objective.decoder_context(pairs, *source)
            yield _Compared(tokens, layout, places, target, predicted, context)

    def _states(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._tokenizer.encode(text)[-self._sizes.source_len :] for text in texts]

    def _actions(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._tokenizer.encode(text)[-self._sizes.longest_action :] for text in texts]

    def _tokens(self, transitions: Sequence[Question]) -> tuple[list[list[int]], ...]:
        """States, actions and next states."""
        longest = self._sizes.target_len
        return (
            self._states([one.source for one in transitions]),
            self._actions([one.action for one in transitions]),
            [self._tokenizer.encode(one.gold)[:longest] for one in transitions],
        )


def _numpy(rows: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = rows.detach().double().cpu().numpy()
    return found
