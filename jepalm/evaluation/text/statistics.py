"""What texts are like: entropies, divergence, words, diversity, copying, agreement with the real text.

Everything counts characters of decoded text, so that it means the same for every tokenizer. An n-gram lies
within one text and never across two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import entropy

from jepalm.evaluation.metrics import COPY_LENGTH

Keys = NDArray[np.uint64]

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, 2^64 over the golden ratio


def ngrams(texts: Sequence[str], n: int) -> Keys:
    """One key for each n-gram of each text, in order, (N,).

    Equal n-grams have equal keys. Among a million different ones, two share a key with a probability
    of about 3e-8: a key is a polynomial of the characters modulo 2^64.
    """
    keys, inside = _windows(texts, n)
    return keys[inside]


def block_entropy(keys: Keys) -> float:
    """Entropy of the n-grams, in bits: -sum p log2 p over their frequencies (Shannon 1948, section 6).

    A plug-in estimate, too low on little text: compare at equal numbers of n-grams.
    """
    if not len(keys):
        return float("nan")
    return float(entropy(np.unique(keys, return_counts=True)[1], base=2))


def jensen_shannon(one: Keys, other: Keys) -> float:
    """Jensen-Shannon divergence of two n-gram frequencies, in bits, 0 to 1 (Lin 1991, eq. 4.1).

    Two samples of the same text also differ: the divergence of two halves of held-out text, at the
    same numbers of n-grams, is the floor to read it against.
    """
    if not len(one) or not len(other):
        return float("nan")
    table, place = np.unique(np.concatenate((one, other)), return_inverse=True)
    p, q = (np.bincount(part, minlength=len(table)) / len(part) for part in np.split(place, [len(one)]))
    return float(entropy((p + q) / 2, base=2) - (entropy(p, base=2) + entropy(q, base=2)) / 2)


def words(text: str) -> list[str]:
    """Words in lower case: letters, with apostrophes inside."""
    return [match[0].lower() for match in _WORD.finditer(text)]


def lexicon(text: str) -> frozenset[str]:
    """The distinct words of a text."""
    return frozenset(words(text))


def valid_words(text: str, known: frozenset[str], before: str = "") -> tuple[int, int]:
    """Count the known words of a text, and all its words.

    A word at the text's end may be cut, and so may one at its start when the text before it ends in a
    letter: those are left out.
    """
    found = [
        match[0].lower()
        for match in _WORD.finditer(text)
        if match.end() < len(text) and (match.start() > 0 or not before[-1:].isalpha())
    ]
    return sum(word in known for word in found), len(found)


def distinct(found: Sequence[tuple[str, ...]]) -> float:
    """Distinct word n-grams over all word n-grams (distinct-n, Li et al. 2016, arXiv 1510.03055).

    Falls with their number: compare at equal numbers.
    """
    return len(set(found)) / len(found) if found else float("nan")


def word_ngrams(texts: Iterable[str], n: int) -> list[tuple[str, ...]]:
    """Every n words in a row of each text, in order."""
    rows = (words(text) for text in texts)
    return [tuple(row[at : at + n]) for row in rows for at in range(len(row) - n + 1)]


def repeated(text: str, n: int = 4) -> tuple[int, int]:
    """Count the n-grams of a text that stood in it before, and all its n-grams.

    Their ratio is seq-rep-n (Welleck et al. 2020, arXiv 1908.04319), on characters.
    """
    keys = ngrams([text], n)
    return len(keys) - len(np.unique(keys)), len(keys)


class Copies:
    """Finds what texts share with a long text, n characters at a time."""

    def __init__(self, text: str, n: int = COPY_LENGTH) -> None:
        self.n = n
        self._known = np.unique(ngrams([text], n))

    def covered(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Characters of each text that lie in an n-gram of the long text, (N,)."""
        keys, inside = _windows(texts, self.n)
        hits = np.flatnonzero(inside)[_among(keys[inside], self._known)]
        edges = np.cumsum([0, *map(len, texts)])
        change = np.zeros(edges[-1] + 1, np.int64)
        change[hits] += 1
        change[hits + self.n] -= 1
        marked = np.concatenate(([0], np.cumsum(np.cumsum(change[:-1]) > 0)))
        return marked[edges[1:]] - marked[edges[:-1]]


def _among(keys: Keys, known: Keys) -> NDArray[np.bool_]:
    """Which keys are among sorted ones, (N,); hashing a long text anew would cost far more."""
    if not len(known):
        return np.zeros(len(keys), np.bool_)
    return known[np.searchsorted(known, keys).clip(max=len(known) - 1)] == keys


@dataclass(frozen=True)
class Brier:
    """The two parts of Brier-n of each prompt, (N,): `score` is their difference."""

    accuracy: NDArray[np.float64]
    collision: NDArray[np.float64]

    @property
    def score(self) -> NDArray[np.float64]:
        """1 when every sample is the real text, -1 when all are the same wrong one."""
        return self.accuracy - self.collision


def brier(samples: Sequence[Sequence[str]], real: Sequence[str], n: int) -> Brier:
    """Unbiased Brier-n of a generator, from samples alone (CALM, arXiv 2510.27688).

    With x1 and x2 drawn independently for the same prompt and y the real text,
    1{x1 = y} + 1{x2 = y} - 1{x1 = x2} has the mean 2 P(y) - sum over x of P(x)^2, which only the true
    distribution maximises. x and y are the first n characters, or the whole text where it is shorter. Of
    more than two samples, all pairs count.

    Args:
        samples: two or more texts of each prompt, (S, N).
        real: the real continuation of each prompt, (N,).
        n: characters that have to agree.
    """
    if len(samples) < 2:
        raise ValueError("Brier-n needs two samples a prompt")
    codes: dict[str, int] = {}
    drawn = np.array([[codes.setdefault(text[:n], len(codes)) for text in row] for row in samples])  # (S, N)
    truth = np.array([codes.setdefault(text[:n], len(codes)) for text in real])  # (N,)
    n_samples = len(drawn)
    same = (drawn[:, None] == drawn).sum((0, 1)) - n_samples  # ordered pairs of different samples
    return Brier(2 * (drawn == truth).mean(0), same / (n_samples * (n_samples - 1)))


def _windows(texts: Sequence[str], n: int) -> tuple[Keys, NDArray[np.bool_]]:
    """A key for the n characters from each place of the joined texts, and whether they lie in one text."""
    units = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32).astype(np.uint64)
    if len(units) < n:
        return np.zeros(0, np.uint64), np.zeros(0, bool)
    keys = np.zeros(len(units) - n + 1, np.uint64)
    for place in range(n):
        keys = keys * _MULTIPLIER + units[place : place + len(keys)]
    text_of = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    return keys, text_of[: len(keys)] == text_of[n - 1 :]
