"""What writes text and what scores it: the two things every figure about text is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Sampler(Protocol):
    """Draws one continuation of each prompt."""

    def sample(
        self, prompts: Sequence[Sequence[int]], lengths: Sequence[int], *, seed: int
    ) -> list[list[int]]:
        """Continue prompts.

        Args:
            prompts: token ids of each prompt.
            lengths: tokens of each real continuation; a sampler that chooses its own length ignores them.
            seed: decides every draw.

        Returns:
            token ids of each continuation, without its prompt.
        """
        ...

    def passes(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int], *, seed: int) -> float:
        """Forward passes that one of these texts takes, mean over them; see `sample`."""
        ...


class Scorer(Protocol):
    """Says how likely a text is, token after token."""

    @property
    def name(self) -> str:
        """What it is, for people."""
        ...

    def nll(
        self, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]
    ) -> list[NDArray[np.float64]]:
        """Nats of each token of each text, given its prompt and the tokens before it.

        Args:
            prompts: token ids that stand before each text; they are not scored.
            texts: token ids to score.

        Returns:
            an array (T,) for each text.
        """
        ...
