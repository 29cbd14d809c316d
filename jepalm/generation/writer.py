"""What every way of writing has in common: prompts in, texts and their cost out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from jepalm.generation.passage import Passage

TEXTS_AT_ONCE = 64

NextSource = Callable[[list[int], list[int]], list[int]]
"""Token ids of the next source, from those of the last one and of the passage that was written after it."""


def append(source: list[int], written: list[int]) -> list[int]:
    """The next source of a stream of text, which goes on behind what was read."""
    return [*source, *written]


@dataclass(frozen=True)
class Prompt:
    """What a text is written after.

    Attributes:
        source: token ids, one or more; a model reads as many of the last ones as its source or context holds.
        action: token ids of the action on the source, for a model that reads actions.
    """

    source: Sequence[int]
    action: Sequence[int] | None = None


@dataclass(frozen=True)
class GeneratedText:
    """One text a prompt, and the forward passes (NFE, number of function evaluations) it took.

    A one-shot model's pass is one of predictor and decoder; its encoder reads each source once and is not
    counted.

    Attributes:
        ids: token ids of each text, without the prompt and without an end token.
        nfe: forward passes of each text; of texts that are refined in one batch, those of the batch.
        batch_nfe: forward passes of all texts together, where a pass over a batch counts once.
        passages: each passage of a one-shot model as it was written, for the texts that were not yet done.
        checks: passes of a verifier for each text, which are part of `nfe`; none where nothing was drafted.
        drafts: drafts of each text.
    """

    ids: list[list[int]]
    nfe: list[int]
    batch_nfe: int
    passages: list[Passage] = field(default_factory=list)
    checks: list[int] = field(default_factory=list)
    drafts: list[int] = field(default_factory=list)

    @property
    def mean_nfe(self) -> float:
        """Forward passes of a text, mean over the texts."""
        return sum(self.nfe) / len(self.nfe)


class Writer(Protocol):
    """Writes a text after each prompt."""

    @property
    def name(self) -> str:
        """Who writes, for people: the name of a run, or of what is no run."""
        ...

    def write(
        self, prompts: Sequence[Prompt], *, seed: int, lengths: Sequence[int] | None = None
    ) -> GeneratedText:
        """Write a text after each prompt, batch by batch.

        Args:
            prompts: one or more.
            seed: decides every draw; not read by a writer that takes the most likely tokens.
            lengths: tokens of each text, for a writer that cannot end a text by itself; one that can takes
                the largest as a limit, and one whose model or settings say the length does not read them.
        """
        ...


def joined(batches: Iterable[GeneratedText]) -> GeneratedText:
    """The texts of several batches as one record."""
    parts = list(batches)
    return GeneratedText(
        ids=list(chain.from_iterable(part.ids for part in parts)),
        nfe=list(chain.from_iterable(part.nfe for part in parts)),
        batch_nfe=sum(part.batch_nfe for part in parts),
        passages=list(chain.from_iterable(part.passages for part in parts)),
        checks=list(chain.from_iterable(part.checks for part in parts)),
        drafts=list(chain.from_iterable(part.drafts for part in parts)),
    )
