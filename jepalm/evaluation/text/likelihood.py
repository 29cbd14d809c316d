"""A causal model as a judge of other models' texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from jepalm.data.batches import pad_rows
from jepalm.errors import UsageError
from jepalm.evaluation.text.stream import score_stream
from jepalm.generation.loading import TrainedModel
from jepalm.hardware import Hardware
from jepalm.objective.causal import CausalObjective
from jepalm.objective.views import prompt_row


@dataclass(frozen=True)
class CausalScorer:
    """Scores texts with a causal model.

    Attributes:
        name: what it is, for people.
        objective: the trained objective, in evaluation mode.
        hardware: where it lies and in which precision it computes.
        end: token that closes a text; None for a model of windows, which writes on for ever.
        batch_size: texts of a forward pass.
    """

    name: str
    objective: CausalObjective
    hardware: Hardware
    end: int | None = None
    batch_size: int = 64

    @classmethod
    def of(cls, trained: TrainedModel) -> CausalScorer:
        """A trained causal model as the scorer of texts that end as its own do."""
        return cls(trained.run.name, trained.causal, trained.hardware, trained.end)

    @torch.no_grad()
    def nll(
        self, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]
    ) -> list[NDArray[np.float64]]:
        """Nats of each token of each text, given its prompt and the tokens before it.

        What does not fit the context is dropped from the prompt's start; a text longer than the context
        is scored by a window that slides by half of it.

        Args:
            prompts: at least one token id each; they are not scored.
            texts: token ids to score.

        Returns:
            an array (T,) for each text.

        Raises:
            UsageError: a prompt is empty.
        """
        if not all(prompts):
            raise UsageError("a prompt is empty", "a causal model predicts a token from those before it")
        rows = [[*self._read(prompt), *text] for prompt, text in zip(prompts, texts, strict=True)]
        sizes = [len(text) for text in texts]
        nats: list[NDArray[np.float64]] = [np.zeros(0)] * len(rows)
        context = self.objective.model.context_len
        short = sorted((len(rows[at]), at) for at, size in enumerate(sizes) if 0 < size <= context)
        with self.hardware.autocast():
            for at, size in enumerate(sizes):
                if size > context:
                    first, stride = len(rows[at]) - size, max(1, context // 2)
                    nats[at] = score_stream(self.objective, rows[at], first=first, stride=stride).nats
            for start in range(0, len(short), self.batch_size):
                picked = [at for _, at in short[start : start + self.batch_size]]
                read = pad_rows([rows[at][-context - 1 :] for at in picked], self.hardware.device)
                logits = self.objective.model(read.ids[:, :-1]).float()  # (B, T, V)
                costs = F.cross_entropy(logits.transpose(1, 2), read.ids[:, 1:], reduction="none")
                for at, row, length in zip(picked, costs.cpu().double(), read.lengths.tolist(), strict=True):
                    nats[at] = row[length - 1 - sizes[at] : length - 1].numpy()
        return nats

    def _read(self, prompt: Sequence[int]) -> list[int]:
        """A prompt as the model was trained to read it: closed, where it writes texts that end."""
        return list(prompt) if self.end is None else prompt_row(prompt)
