"""A JEPALM as a writer: passage after passage, each written after the text so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from jepalm.data.batches import Tokens, pad_rows
from jepalm.generation import one_pass
from jepalm.generation.left_to_right import LeftToRight
from jepalm.generation.noise import GumbelNoise
from jepalm.generation.passage import Method, Passage
from jepalm.generation.writer import TEXTS_AT_ONCE, GeneratedText, NextSource, Prompt, append, joined
from jepalm.hardware import Hardware
from jepalm.objective import JepalmObjective


@dataclass(frozen=True)
class PassageWriter:
    """Writes one passage after each prompt, several, or as many as a given length takes.

    What stands last in a passage is written with the least known before it; `keep` throws it away, to be
    written again in the next passage.

    Attributes:
        name: of the run.
        objective: in evaluation mode.
        hardware: where it lies and in which precision it computes.
        temperature: of the draws; 0 takes the most likely tokens.
        method: how each passage is written; in one pass when empty.
        length: tokens of each text, in as many passages as it takes, none of which ends before; `passages`
            passages when empty.
        passages: of each text.
        passage_length: positions to write of each passage, no more than a given length leaves; the model
            chooses when empty.
        length_candidates: likeliest lengths to try of each passage (`one_pass.generate`).
        keep: how much of a passage stays, one token at least. From 1 on so many tokens; below 1 the longest
            beginning whose tokens all together are at least this probable (prefix probability threshold);
            everything when empty.
        next_source: how what was written becomes the next source, of which the model reads the end.
        batch_size: texts that are written at once.
    """

    name: str
    objective: JepalmObjective
    hardware: Hardware
    temperature: float = 0.0
    method: Method | None = None
    length: int | None = None
    passages: int = 1
    passage_length: int | None = None
    length_candidates: int = 1
    keep: float | None = None
    next_source: NextSource = append
    batch_size: int = TEXTS_AT_ONCE

    def write(
        self, prompts: Sequence[Prompt], *, seed: int = 0, lengths: Sequence[int] | None = None
    ) -> GeneratedText:
        """Write after each prompt; `lengths` is not read. See `Writer`.

        Texts of an autoregressive decoder, and texts of a given length where the predictor reads Gumbel
        noise, have noise by text and position (`GumbelNoise`):
        a position has the same noise whenever it is written, so that throwing tokens away does not bias which
        texts are drawn. All other draws are those of one generator.
        """
        generator = torch.Generator(self.hardware.device).manual_seed(seed)
        starts = range(0, len(prompts), self.batch_size)
        return joined(
            self._write(prompts[at : at + self.batch_size], generator, self._noise(seed, at)) for at in starts
        )

    def _noise(self, seed: int, first: int) -> GumbelNoise | None:
        ordered = self.objective.model.config.decoder.autoregressive
        if not self.temperature or not (ordered or (self.length is not None and self.objective.reads_gumbel)):
            return None
        return GumbelNoise(seed, self.objective.vocab_size, self.hardware.device, first=first)

    def _write(
        self, prompts: Sequence[Prompt], generator: torch.Generator, noise: GumbelNoise | None
    ) -> GeneratedText:
        """One batch."""
        config, method = self.objective.model.config, self.method
        if isinstance(method, LeftToRight) and self.length is not None:
            method = replace(method, ends=False)
        sources = [list(prompt.source) for prompt in prompts]
        texts: list[list[int]] = [[] for _ in prompts]
        nfe, passages = [0] * len(prompts), list[Passage]()
        unfinished = list(range(len(prompts)))
        while unfinished:
            drawn = None
            if noise is not None:
                drawn = noise.at(unfinished, [len(texts[row]) for row in unfinished], config.target_len)
            read = [sources[row][-config.source_len :] for row in unfinished]
            with self.hardware.autocast():
                passage = one_pass.generate(
                    self.objective,
                    pad_rows(read, self.hardware.device),
                    action=padded_actions([prompts[row] for row in unfinished], self.hardware.device),
                    length=self._positions([texts[row] for row in unfinished]),
                    length_candidates=self.length_candidates,
                    temperature=self.temperature,
                    generator=generator,
                    method=method,
                    noise=drawn,
                )
            passages.append(passage)
            further = []
            for row, tokens in zip(unfinished, kept(passage, self.keep), strict=True):
                texts[row] += tokens
                nfe[row] += passage.nfe
                if not self._is_done(texts[row], len(passages)):
                    sources[row] = self.next_source(sources[row], tokens)
                    further.append(row)
            unfinished = further
        texts = [text[: self.length] for text in texts]
        return GeneratedText(texts, nfe, sum(passage.nfe for passage in passages), passages)

    def _positions(self, texts: list[list[int]]) -> int | None:
        """Positions to write of the next passage."""
        if self.passage_length is None or self.length is None:
            return self.passage_length
        return min(self.passage_length, self.length - min(map(len, texts)))

    def _is_done(self, text: list[int], n_passages: int) -> bool:
        return n_passages == self.passages if self.length is None else len(text) >= self.length


def padded_actions(prompts: Sequence[Prompt], device: torch.device) -> Tokens | None:
    """The actions of prompts as one padded batch; None where they have none."""
    actions = [prompt.action for prompt in prompts if prompt.action is not None]
    return pad_rows(actions, device) if actions else None


def kept(passage: Passage, keep: float | None) -> list[list[int]]:
    """The tokens of each text that stay; `keep` is that of `PassageWriter`."""
    rows = passage.rows()
    if keep is None:
        return rows
    if keep >= 1:
        return [row[: int(keep)] for row in rows]
    probable = (passage.log_probs.cumsum(1).exp() >= keep).sum(1).tolist()  # a sum of logs only falls
    return [row[: max(1, n)] for row, n in zip(rows, probable, strict=True)]
