"""Many prompts, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jepalm.errors import UsageError
from jepalm.generation.loading import TrainedModel
from jepalm.generation.text import Source, continue_texts, read_prompt

TEXTS_AT_ONCE = 64


@dataclass(frozen=True)
class Written:
    """What was written after a batch of prompts.

    Attributes:
        texts: of each prompt, its samples.
        passes: forward passes of the batch.
    """

    texts: list[list[str]]
    passes: int


def read_prompts(trained: TrainedModel, lines: Sequence[str]) -> list[Source]:
    """Turn lines into sources, each as `read_prompt` does.

    Raises:
        UsageError: there are none, or one cannot be read; names its number.
    """
    if not lines:
        raise UsageError("there are no prompts", "give one a line")
    sources = []
    for number, line in enumerate(lines, 1):
        try:
            sources.append(read_prompt(trained, line))
        except UsageError as error:
            raise UsageError(f"prompt {number}: {error.message}", error.hint) from None
    return sources


def continue_many(
    trained: TrainedModel, sources: Sequence[Source], *, samples: int = 1, seed: int = 0, **settings: Any
) -> Iterator[Written]:
    """Yield what is written after each batch of prompts; settings and errors are those of `continue_texts`.

    The draws of a batch are decided by the seed and the batch's number.
    """
    at_once = max(1, TEXTS_AT_ONCE // samples)
    for number, at in enumerate(range(0, len(sources), at_once)):
        batch = [source for source in sources[at : at + at_once] for _ in range(samples)]
        own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        made = continue_texts(trained, batch, seed=own, **settings)
        rows = [made.text[first : first + samples] for first in range(0, len(batch), samples)]
        yield Written(rows, made.passes)
