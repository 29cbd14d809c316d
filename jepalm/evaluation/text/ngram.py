"""The n-gram model as a writer: the floor that a generator has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jepalm.data.ngram import NGram
from jepalm.generation.writer import GeneratedText, Prompt


class NGramWriter(NGram):
    """Counts of a text that write, exactly and reproducibly: a `Writer`."""

    def write(
        self, prompts: Sequence[Prompt], *, seed: int, lengths: Sequence[int] | None = None
    ) -> GeneratedText:
        """Continue each prompt by as many tokens as asked; its NFE are look-ups, one a token: a `Writer`."""
        assert lengths is not None, "counts do not say where a text ends"
        rng = np.random.default_rng(seed)
        reach, steps = self.order - 1, max(lengths, default=0)
        written = np.full((len(prompts), reach + steps), -1, np.int64)  # (B, context + T), -1 before a prompt
        for row, prompt in enumerate(prompts):
            tail = list(prompt.source[max(0, len(prompt.source) - reach) :])
            written[row, reach - len(tail) : reach] = tail
        for step in range(reach, reach + steps):
            written[:, step] = self.draw(written[:, step - reach : step], rng)
        rows = zip(written[:, reach:].tolist(), lengths, strict=True)
        return GeneratedText([row[:length] for row, length in rows], list(lengths), steps)
