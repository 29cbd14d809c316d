"""What scores text; what writes it is a `generation.writer.Writer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


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
