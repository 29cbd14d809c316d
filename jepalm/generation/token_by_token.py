"""Autoregressive generation: one forward pass a token, with keys and values kept between passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from jepalm.data.batches import Tokens, pad_rows
from jepalm.data.tokenizer import SPECIALS
from jepalm.generation.noise import GumbelNoise
from jepalm.generation.sampling import GREEDY, Sampling
from jepalm.generation.writer import TEXTS_AT_ONCE, GeneratedText, NextSource, Prompt, append, joined
from jepalm.hardware import Hardware
from jepalm.model.causal import CausalModel
from jepalm.objective.causal import CausalObjective
from jepalm.objective.views import prompt_row


@dataclass(frozen=True)
class Continuation:
    """What was written after each prompt.

    Attributes:
        rows: token ids of each text, without the end token.
        nfe: forward passes, one for each token of the longest text.
    """

    rows: list[list[int]]
    nfe: int


@dataclass(frozen=True)
class CausalWriter:
    """Writes token by token.

    Attributes:
        name: of the run.
        objective: in evaluation mode.
        hardware: where it lies and in which precision it computes.
        length: tokens of a passage, the most where there is an end token.
        end: token that closes a text; None for a model of windows, which writes on for ever.
        sampling: how tokens are chosen.
        passages: of each text.
        next_source: how a passage becomes the next source.
        batch_size: texts that are written at once.
    """

    name: str
    objective: CausalObjective
    hardware: Hardware
    length: int
    end: int | None = None
    sampling: Sampling = GREEDY
    passages: int = 1
    next_source: NextSource = append
    batch_size: int = TEXTS_AT_ONCE

    def write(
        self, prompts: Sequence[Prompt], *, seed: int = 0, lengths: Sequence[int] | None = None
    ) -> GeneratedText:
        """Write after each prompt, with the noise of its number; see `Writer`."""
        made = []
        for at in range(0, len(prompts), self.batch_size):
            rows = slice(at, at + self.batch_size)
            noise = None
            if self.sampling.temperature:
                noise = GumbelNoise(seed, self.objective.model.vocab_size, self.hardware.device, first=at)
            longest = self.length if lengths is None else max(lengths)
            asked = (
                [longest] * len(prompts[rows])
                if lengths is None or self.end is not None
                else list(lengths[rows])
            )
            made.append(self._write(prompts[rows], longest, asked, noise))
        return joined(made)

    def _write(
        self, prompts: Sequence[Prompt], longest: int, lengths: list[int], noise: GumbelNoise | None
    ) -> GeneratedText:
        """One batch: passages of `longest` tokens, of which each text keeps as many as it is to have."""
        sources = [list(prompt.source) for prompt in prompts]
        texts: list[list[int]] = [[] for _ in prompts]
        nfe, batch_nfe = [0] * len(prompts), 0
        for number in range(self.passages):
            read = sources
            if self.end is not None:
                pairs = zip(sources, prompts, strict=True)
                read = [causal_row(replace(prompt, source=source)) for source, prompt in pairs]
            with self.hardware.autocast():
                made = generate(
                    self.objective,
                    pad_rows(read, self.hardware.device),
                    length=longest,
                    end=self.end,
                    sampling=self.sampling,
                    noise=noise,
                    n_written=number * longest,
                )
            batch_nfe += made.nfe
            for row, tokens in enumerate(made.rows):
                texts[row] += tokens[: lengths[row]]
                nfe[row] += lengths[row] if self.end is None else min(len(tokens) + 1, lengths[row])
                if number < self.passages - 1:
                    sources[row] = self.next_source(sources[row], tokens)
        return GeneratedText(texts, nfe, batch_nfe)


def causal_row(prompt: Prompt) -> list[int]:
    """A prompt as a model of pairs reads it: source, then action, each closed with the end token."""
    return prompt_row(prompt.source) if prompt.action is None else prompt_row(prompt.source, prompt.action)


@torch.no_grad()
def generate(
    objective: CausalObjective,
    prompts: Tokens,
    *,
    length: int,
    end: int | None = None,
    sampling: Sampling = GREEDY,
    noise: GumbelNoise | None = None,
    n_written: int = 0,
) -> Continuation:
    """Write after each prompt, all prompts at once.

    A text that has filled the context goes on from its second half, read anew.

    Args:
        objective: the trained objective, in evaluation mode.
        prompts: (B, T) at least one token each, on the objective's device.
        length: most tokens to write.
        end: token that closes a text; None writes `length` tokens always.
        sampling: how tokens are chosen.
        noise: of the prompts as texts 0, 1 and so on; above temperature 0 it decides every draw.
        n_written: tokens of the prompts that were written too, with noise from position 0 on.
    """
    model = objective.model
    never = [token for token in range(len(SPECIALS)) if token != end]
    texts = [row[:size] for row, size in zip(prompts.ids.tolist(), prompts.lengths.tolist(), strict=True)]
    starts = [len(text) for text in texts]
    done, rows = [False] * len(texts), range(len(texts))
    last, cache = _read(model, texts, model.context_len, prompts.ids.device)
    nfe = 1
    while True:
        logits = model.logits(last).float()  # (B, V)
        logits[:, never] = float("-inf")
        drawn = None if noise is None else noise.at(rows, [n_written + nfe - 1] * len(texts), 1)[:, 0]
        tokens = sampling.choose(logits, drawn)  # (B,)
        for row, token in enumerate(tokens.tolist()):
            done[row] = done[row] or token == end
            if not done[row]:
                texts[row].append(token)
        if nfe == length or all(done):
            break
        if cache.filled == cache.room:
            last, cache = _read(model, texts, max(1, model.context_len // 2), prompts.ids.device)
        else:
            last = model.hidden(tokens[:, None], cache)[:, -1]  # (B, D)
        nfe += 1
    return Continuation([text[start:] for text, start in zip(texts, starts, strict=True)], nfe)


def _read(model: CausalModel, texts: list[list[int]], most: int, device: torch.device) -> tuple[Tensor, Any]:
    """Read the last `most` tokens of each text into a new cache; return what follows each, (B, D)."""
    recent = pad_rows([text[-most:] for text in texts], device)
    cache = model.new_cache(len(texts))
    hidden = model.hidden(recent.ids, cache)  # (B, T, D)
    cache.lengths = recent.lengths
    rows = torch.arange(len(texts), device=device)
    return hidden[rows, recent.lengths - 1], cache
