"""A trained run that reads states and actions: how far an observed next state is from its prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jepalm.data.batches import pad_rows
from jepalm.evaluation.answers.questions import Question
from jepalm.evaluation.distances import AT_ONCE, Distances, TokenPairs, as_numpy, compared, distances
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

Means = NDArray[np.float64]
"""(N, D')"""


class ActionModel:
    """A run that reads actions; it reads text with its own tokenizer, and the end of what is too long."""

    def __init__(self, trained: TrainedModel) -> None:
        self.hardware, self._trained, self._writer = trained.hardware, trained, writer_for(trained)
        self._tokenizer, self._sizes = trained.tokenizer, trained.config.model

    @property
    def kinds(self) -> tuple[str, ...]:
        """The distances that it has."""
        return ("ce",) if self._trained.is_causal else ("embedding", "ce")

    def distances(self, transitions: Sequence[Question]) -> Distances:
        """How far the next state of each transition is from the predicted one, which is given its length."""
        return distances(self._trained, self._tokens(transitions))

    def means(self, transitions: Sequence[Question]) -> tuple[Means, Means]:
        """Mean target and mean predicted embedding of each next state, two of (N, D')."""
        parts = list(compared(self._trained, self._tokens(transitions)))
        targets = [as_numpy(one.places.mean(one.target)) for one in parts]
        predictions = [as_numpy(one.places.mean(one.predicted)) for one in parts]
        return np.concatenate(targets), np.concatenate(predictions)

    def positions(self, transitions: Sequence[Question]) -> tuple[Tensor, Tensor]:
        """Target and predicted embeddings of all positions, two of (N', D')."""
        parts = list(compared(self._trained, self._tokens(transitions)))
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

    def _states(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._tokenizer.encode(text)[-self._sizes.source_len :] for text in texts]

    def _actions(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._tokenizer.encode(text)[-self._sizes.longest_action :] for text in texts]

    def _tokens(self, transitions: Sequence[Question]) -> TokenPairs:
        """States, next states and actions."""
        longest = self._sizes.target_len
        return TokenPairs(
            self._states([one.source for one in transitions]),
            [self._tokenizer.encode(one.gold)[:longest] for one in transitions],
            self._actions([one.action for one in transitions]),
        )
