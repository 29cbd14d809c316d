"""Texts made of random pieces of the training text: what local agreement alone is worth under a scorer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from jepalm.data.tokenizer import TextTokenizer
from jepalm.evaluation.interfaces import Scorer

CHARACTERS = (4, 8, 16, 32)
"""Lengths of random pieces."""
WORDS = (1, 4, 8, 16)
"""Characters that a piece of whole words has at least; 1: each word by itself."""


def chunk_texts(training: str, lengths: Sequence[int], seed: int) -> dict[str, list[str]]:
    """A text of each length in characters, by what it is made of.

    Args:
        training: the training text, longer than a piece.
        lengths: of the texts.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    begins = np.array([match.start() for match in re.finditer(r"\S+\s", training)])  # of words

    def anywhere(n: int) -> str:
        at = int(generator.integers(len(training) - n + 1))
        return training[at : at + n]

    def whole_words(n: int) -> str:
        first = int(generator.integers(len(begins)))
        behind = int(np.searchsorted(begins, begins[first] + n))
        end = int(begins[behind]) if behind < len(begins) else len(training)
        return training[int(begins[first]) : end]

    def filled(piece: Callable[[int], str], n: int, length: int) -> str:
        text = ""
        while len(text) < length:
            text += piece(n)
        return text[:length]

    found = {
        f"training chunks of {n}": [filled(anywhere, n, length) for length in lengths] for n in CHARACTERS
    }
    for n in WORDS:
        name = "training words" if n == 1 else f"training words, {n} or more characters"
        found[name] = [filled(whole_words, n, length) for length in lengths]
    return found


def chunk_nll(
    scorer: Scorer,
    tokenizer: TextTokenizer,
    prompts: list[list[int]],
    training: str,
    lengths: Sequence[int],
    seed: int,
) -> dict[str, float]:
    """Nats a character of these texts after the prompts; see `chunk_texts`."""
    found = {}
    for name, texts in chunk_texts(training, lengths, seed).items():
        nats = scorer.nll(prompts, [tokenizer.encode(text) for text in texts])
        found[name] = float(sum(row.sum() for row in nats) / sum(map(len, texts)))
    return found
