"""Hidden spans: which tokens of a text are the target, and the text without them.

In every text the same number of tokens is hidden, in the same number of runs, so that nothing is padded and
every step weighs the same; where the runs lie and how long each is, is drawn fresh at each visit. Runs are
the parts of a random composition, as those of T5 are (arXiv 1910.10683, section 3.1.4): their lengths are
close to geometric, as SpanBERT's (arXiv 1907.10529, section 3.1), without its cut at a longest one. A run may
begin or end the text, since a gap that a user asks for may.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from jepalm.config import SpansConfig


def n_hidden(config: SpansConfig, length: int) -> int:
    """Hidden tokens of a text of `length` tokens, at least one hidden and one left: share times length."""
    return min(max(1, round(config.share * length)), length - 1)


def draw_places(
    rng: np.random.Generator, n_texts: int, length: int, config: SpansConfig
) -> NDArray[np.int64]:
    """Draw the hidden places of each text, ascending: (B, K), K = `n_hidden(config, length)`.

    Args:
        rng: decides everything.
        n_texts: B.
        length: tokens of every text, at least 2.
        config: share hidden, and the mean length of a run.
    """
    hidden = n_hidden(config, length)
    shown = length - hidden
    runs = min(max(1, round(hidden / config.mean_length)), shown + 1)
    own, other = rng.spawn(2)
    hidden_parts = composition(own, n_texts, hidden, runs)  # (B, R)
    shown_parts = composition(other, n_texts, shown + 2, runs + 1)  # (B, R + 1)
    shown_parts[:, [0, -1]] -= 1  # nothing need stand before the first run, or after the last
    parts = np.empty((n_texts, 2 * runs + 1), dtype=np.int64)
    parts[:, ::2], parts[:, 1::2] = shown_parts, hidden_parts
    turns = np.zeros((n_texts, length + 1), dtype=np.int64)
    np.add.at(turns, (np.arange(n_texts)[:, None], parts.cumsum(1)[:, :-1]), 1)
    inside = turns[:, :-1].cumsum(1) % 2 == 1  # (B, T)
    return np.nonzero(inside)[1].reshape(n_texts, hidden)


def composition(rng: np.random.Generator, n_texts: int, total: int, parts: int) -> NDArray[np.int64]:
    """Whole numbers from 1 on that add up to `total`, every way equally likely: (B, parts)."""
    order = rng.random((n_texts, total - 1)).argsort(1)  # (B, total - 1)
    cuts = np.sort(order[:, : parts - 1], axis=1) + 1  # (B, parts - 1)
    ends = np.full((n_texts, 1), total)
    return np.diff(np.concatenate([cuts, ends], axis=1), prepend=0).astype(np.int64)


def hide(ids: Tensor, places: Tensor, mask_id: int) -> tuple[Tensor, Tensor]:
    """Take tokens out of texts.

    Args:
        ids: (B, T) whole texts.
        places: (B, K) of the hidden tokens.
        mask_id: token that stands in their place.

    Returns:
        (B, T) texts with the mask token there, and (B, K) the tokens taken out.
    """
    return ids.scatter(1, places, mask_id), ids.gather(1, places)
