"""Text of any length from a JEPALM of windows: passage after passage, each after the text so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from jepalm.data.batches import pad_rows
from jepalm.generation import one_pass as one_shot
from jepalm.generation.noise import Noise
from jepalm.generation.one_pass import Passage
from jepalm.generation.refine import Refining
from jepalm.hardware import Hardware
from jepalm.objective import JepalmObjective


@dataclass(frozen=True)
class Rolled:
    """What was written after each prompt.

    Attributes:
        rows: token ids of each text.
        passes: passes of predictor and decoder for all texts together, as many as the slowest one takes.
        passes_of: those of each text.
        passages: each passage as it was written, whole, for the texts that were not yet long enough.
    """

    rows: list[list[int]]
    passes: int
    passes_of: list[int]
    passages: list[Passage]


def roll(
    objective: JepalmObjective,
    hardware: Hardware,
    prompts: Sequence[Sequence[int]],
    *,
    length: int | None = None,
    keep: float | None = None,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
    refining: Refining | None = None,
) -> Rolled:
    """Write `length` tokens after each prompt, in as many passages as it takes.

    The source of a passage is the end of prompt and text so far. What stands last in a passage is written
    with the least known before it; `keep` throws it away, to be written again in the next.

    Args:
        objective: in evaluation mode, of a model of windows where there may be several passages.
        hardware: where it runs.
        prompts: B texts of one token id or more.
        length: tokens of each text; one passage of the length that the model chooses when empty.
        keep: how much of a passage stays, one token at least. From 1 on so many tokens; below 1 as many as
            the decoder gives, all together, at least that chance; everything when empty.
        temperature: of the draws.
        generator: draws tokens or noise; torch's own when None.
        noise: of the prompts as texts 0, 1 and so on, for a predictor that reads Gumbel noise: a place has
            the same whenever it is written, so that what is thrown away does not sway which texts are drawn.
        refining: how each passage is refined; one pass when empty.
    """
    model = objective.model.config
    texts: list[list[int]] = [[] for _ in prompts]
    passes_of, passages = [0] * len(prompts), list[Passage]()
    live = list(range(len(prompts)))
    while live:
        read = [[*prompts[number], *texts[number]][-model.source_len :] for number in live]
        drawn = None
        if noise is not None:
            drawn = noise.at(live, [len(texts[number]) for number in live], model.target_len)
        with hardware.autocast():
            passage = one_shot.generate(
                objective,
                pad_rows(read, hardware.device),
                temperature=temperature,
                generator=generator,
                writing=refining,
                noise=drawn,
            )
        for number, row in zip(live, kept(passage, keep), strict=True):
            texts[number] += row if length is None else row[: length - len(texts[number])]
            passes_of[number] += passage.passes
        passages.append(passage)
        live = [number for number in live if length is not None and len(texts[number]) < length]
    return Rolled(texts, sum(passage.passes for passage in passages), passes_of, passages)


def noise_of(
    objective: JepalmObjective, hardware: Hardware, temperature: float, seed: int, first: int = 0
) -> Noise | None:
    """Verification's noise of this seed, for a predictor that reads some; texts are numbered from `first`."""
    if not objective.reads_gumbel or not temperature:
        return None
    return Noise(seed, objective.vocab_size, hardware.device, first=first)


def kept(passage: Passage, keep: float | None) -> list[list[int]]:
    """The tokens of each text that stay; `keep` is that of `roll`."""
    rows = passage.rows()
    if keep is None:
        return rows
    if keep >= 1:
        return [row[: int(keep)] for row in rows]
    sure = (passage.log_probs.cumsum(1).exp() >= keep).sum(1).tolist()  # a sum of logs only falls
    return [row[: max(1, number)] for row, number in zip(rows, sure, strict=True)]
