"""Trained runs as samplers and scorers: one-shot models write, autoregressive ones write and score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from jepalm.data.batches import pad_rows
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import UsageError
from jepalm.evaluation.interfaces import Sampler
from jepalm.generation import autoregressive, one_shot
from jepalm.generation.autoregressive import Sampling
from jepalm.generation.loading import TrainedModel
from jepalm.hardware import Hardware
from jepalm.objective import CausalObjective, JepalmObjective

PROMPTS_AT_ONCE = 64


class OneShotSampler:
    """A JEPALM as a sampler; it chooses its own lengths."""

    def __init__(self, objective: JepalmObjective, hardware: Hardware, temperature: float = 1.0) -> None:
        self.objective, self.hardware, self.temperature = objective, hardware, temperature

    def sample(
        self, prompts: Sequence[Sequence[int]], lengths: Sequence[int], *, seed: int
    ) -> list[list[int]]:
        """Write one passage after each prompt, in one pass."""
        rows: list[list[int]] = []
        device, longest = self.hardware.device, self.objective.model.config.source_len
        generator = torch.Generator(device).manual_seed(seed)
        for at in range(0, len(prompts), PROMPTS_AT_ONCE):
            source = pad_rows([prompt[-longest:] for prompt in prompts[at : at + PROMPTS_AT_ONCE]], device)
            with self.hardware.autocast():
                passage = one_shot.generate(
                    self.objective, source, temperature=self.temperature, generator=generator
                )
            rows.extend(passage.rows())
        return rows


class AutoregressiveSampler:
    """A causal model as a sampler: as many tokens as the real continuation has, or to its own end."""

    def __init__(self, objective: CausalObjective, hardware: Hardware, temperature: float = 1.0) -> None:
        self.objective, self.hardware = objective, hardware
        self.sampling = Sampling(temperature)

    def sample(
        self, prompts: Sequence[Sequence[int]], lengths: Sequence[int], *, seed: int
    ) -> list[list[int]]:
        """Write after each prompt, one pass a token."""
        rows: list[list[int]] = []
        device = self.hardware.device
        generator = torch.Generator(device).manual_seed(seed)
        for at in range(0, len(prompts), PROMPTS_AT_ONCE):
            wanted = lengths[at : at + PROMPTS_AT_ONCE]
            with self.hardware.autocast():
                written = autoregressive.generate(
                    self.objective,
                    pad_rows(prompts[at : at + PROMPTS_AT_ONCE], device),
                    length=max(wanted),
                    sampling=self.sampling,
                    generator=generator,
                )
            rows.extend(row[:size] for row, size in zip(written.rows, wanted, strict=True))
        return rows


class AutoregressiveScorer:
    """A causal model as a scorer; a text that is longer than its context is scored from its last tokens."""

    def __init__(self, objective: CausalObjective, hardware: Hardware, name: str) -> None:
        self.objective, self.hardware, self._name = objective, hardware, name

    @property
    def name(self) -> str:
        """What it is, for people."""
        return self._name

    @torch.no_grad()
    def nll(
        self, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]
    ) -> list[NDArray[np.float64]]:
        """Nats of each token of each text, given its prompt and the tokens before it.

        Raises:
            UsageError: a text with one token before it does not fit into the model's context.
        """
        found: list[NDArray[np.float64]] = []
        model, longest = self.objective.model, self.objective.model.context_len + 1
        for at in range(0, len(texts), PROMPTS_AT_ONCE):
            part = list(texts[at : at + PROMPTS_AT_ONCE])
            if max(map(len, part)) >= longest:
                message = f"texts of {max(map(len, part))} tokens do not fit {self.name}"
                raise UsageError(message, f"it reads {longest - 1} tokens")
            pairs = zip(prompts[at : at + PROMPTS_AT_ONCE], part, strict=True)
            whole = pad_rows([[*prompt, *text][-longest:] for prompt, text in pairs], self.hardware.device)
            with self.hardware.autocast():
                logits = model(whole.ids[:, :-1]).float()  # (B, T, V)
            labels = whole.ids[:, 1:]  # (B, T)
            nats = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
            for row, size, text in zip(nats.cpu().double(), whole.lengths.tolist(), part, strict=True):
                found.append(row[size - 1 - len(text) : size - 1].numpy())
        return found


def sampler_of(trained: TrainedModel, other: TrainedModel, temperature: float = 1.0) -> Sampler:
    """Another run as the baseline of a run.

    Raises:
        UsageError: they do not share a tokenizer.
    """
    same_tokenizer(trained.tokenizer, other.tokenizer, other.run.name)
    if isinstance(other.objective, CausalObjective):
        return AutoregressiveSampler(other.objective, other.hardware, temperature)
    assert isinstance(other.objective, JepalmObjective)
    return OneShotSampler(other.objective, other.hardware, temperature)


def scorer_of(trained: TrainedModel, other: TrainedModel) -> AutoregressiveScorer:
    """A causal run as the scorer of a run's text.

    Raises:
        UsageError: it is no causal run, or they do not share a tokenizer.
    """
    if not isinstance(other.objective, CausalObjective):
        raise UsageError(f"{other.run.name} cannot score text", "--scorer takes a causal run")
    same_tokenizer(trained.tokenizer, other.tokenizer, other.run.name)
    return AutoregressiveScorer(other.objective, other.hardware, other.run.name)


def same_tokenizer(one: TextTokenizer, other: TextTokenizer, name: str) -> None:
    """Raise UsageError where two runs read text differently."""
    if one.to_json() != other.to_json():
        raise UsageError(f"{name} has another tokenizer", "take a run with the same tokenizer")
