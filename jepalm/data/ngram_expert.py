"""The n-gram expert of a light decoder: what counts of the training text say of every next token.

A token of the training text is predicted by counts of the text without the fold that it lies in: a decoder
that learned from counts of the very token it predicts would trust them too much. All other text is
predicted by the counts of the whole training text, which lie in a file of the run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from jepalm.data.ngram import Ids, Level, NGram
from jepalm.data.prepared import PreparedData, Split
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import JepalmError, UsageError

NGRAM = "ngram.safetensors"
FOLDS = 10
"""Contiguous parts of the training text, each predicted by the counts of the others."""
KEPT_NUMBERS = 1 << 23
"""Probabilities that are kept for contexts that come again: 96 MiB with their logarithms."""
_FACTS = {"tokenizer": "another tokenizer", "order": "another model.decoder.ngram", "data": "other data"}
"""What a file says of its counts, and what is wrong where that differs."""


class _Kept(NamedTuple):
    """What counts say after a past.

    Attributes:
        context: its index among those of its length; -1 where it was never seen.
        probabilities: (V,) of every next token.
        log_probs: (V,) their logarithms.
    """

    context: int
    probabilities: NDArray[np.float64]
    log_probs: NDArray[np.float32]


class NGramExpert:
    """Log-probabilities of a Witten-Bell model of the training text.

    Args:
        ngram: counts of the whole training text.
        edges: (K + 1,) where in the stream of training tokens each fold begins, and its end.
        without: for each fold the counts of the text without it; none where nothing is trained.
    """

    def __init__(self, ngram: NGram, edges: Ids | None = None, without: Sequence[NGram] = ()) -> None:
        self.ngram = ngram
        self._edges, self._without = edges, without
        self._kept: dict[tuple[int, ...], _Kept] = {}

    @property
    def reach(self) -> int:
        """Tokens before a position that are read."""
        return self.ngram.order - 1

    def log_probs(self, previous: Tensor, places: Tensor | None) -> Tensor:
        """Log-probabilities of every token at some positions, (B, T, V) float32; computed on the CPU.

        Args:
            previous: (B, T, M) tokens before each position, the nearest first; padding where there is none.
            places: (B, T) where in the stream of training tokens each position lies; None for other text.
        """
        read = previous[..., : self.reach].flatten(0, 1).cpu().numpy()  # (B T, M)
        if places is None:
            found = self.ngram.distributions(read)
        else:
            assert self._edges is not None, "counts without folds know what they predict"
            last = len(self._without) - 1
            fold = np.searchsorted(self._edges, places.flatten().cpu().numpy(), side="right") - 1
            fold = np.minimum(fold, last)
            found = np.empty((len(read), self.ngram.vocab_size))
            for number in np.unique(fold).tolist():
                rows = fold == number
                found[rows] = self._without[number].distributions(read[rows])
        logs = torch.from_numpy(np.log(found).astype(np.float32))
        return logs.view(*previous.shape[:2], -1).to(previous.device)

    def keep_out_of_graphs(self) -> None:
        """Call NumPy between the parts of a compiled step; loads the compiler."""
        object.__setattr__(self, "log_probs", torch.compiler.disable(self.log_probs))

    def after(self, previous: Ids) -> NDArray[np.float32]:
        """Log-probabilities (B, V) after the tokens before one position (B, M), the nearest first."""
        rows = previous[:, : self.reach].tolist()
        return np.stack([self._after(tuple(row)).log_probs for row in rows])

    def _after(self, past: tuple[int, ...]) -> _Kept:
        """What is known after a past, the nearest token first: of the shorter one, with one level more."""
        known = self._kept.get(past)
        if known is not None:
            return known
        level, vocab_size, place = self.ngram.levels[len(past)], self.ngram.vocab_size, 0
        if past:
            known = self._after(past[:-1])
            found, place = known.probabilities, known.context
            if place >= 0:
                key = place * vocab_size + past[-1]
                place = int(level.contexts.searchsorted(key))
                place = place if place < len(level.contexts) and level.contexts[place] == key else -1
        else:
            found = np.full(vocab_size, 1 / vocab_size)
        if known is None or place >= 0:
            pairs = slice(level.first[place], level.first[place + 1])
            scale = 1 / (level.total[place] + level.types[place])
            found = found * (level.types[place] * scale)
            found[level.tokens[pairs]] += level.counts[pairs] * scale
            known = _Kept(place, found, np.log(found).astype(np.float32))
        elif known.context >= 0:
            known = _Kept(-1, known.probabilities, known.log_probs)
        if (len(self._kept) + 1) * vocab_size > KEPT_NUMBERS:
            self._kept.clear()
        self._kept[past] = known
        return known

    def as_file(self, tokenizer: TextTokenizer, content_sha256: str) -> bytes:
        """The counts of the whole training text as a safetensors file.

        Args:
            tokenizer: whose tokens were counted.
            content_sha256: of the prepared data.
        """
        arrays = {
            f"{name}_{length}": getattr(level, name)
            for length, level in enumerate(self.ngram.levels)
            for name in ("contexts", "pairs", "counts")
        }
        return save(arrays, _facts(tokenizer, self.ngram.order, content_sha256))


def count_expert(prepared: PreparedData, order: int, n_folds: int = FOLDS) -> NGramExpert:
    """Count the training text, and the text without each fold.

    Args:
        prepared: the data.
        order: longest context and one.
        n_folds: folds, as long as each other.
    """
    split, vocab_size = prepared.split("train"), prepared.meta.vocab_size
    edges = np.linspace(0, split.n_tokens, n_folds + 1).astype(np.int64)
    ids, places, starts, counted = counted_text(split, order - 1)
    folds = np.minimum(np.searchsorted(edges, places, side="right") - 1, n_folds - 1)
    ngram, without = NGram.cross_fit(ids, vocab_size, order, folds, starts, counted)
    return NGramExpert(ngram, edges, without)


def counted_text(split: Split, reach: int) -> tuple[Ids, Ids, Ids | None, NDArray[np.bool_] | None]:
    """What is counted of a split, as a light decoder reads it.

    Of windows and spans that is the stream of tokens, of stored pairs each target with its end token, behind
    the last `reach` tokens of its source.

    Returns:
        token ids (T,), where in the stream each lies (T,), where in these a document begins, and which are
        counted, not read alone.
    """
    stream = split.tokens(0, split.n_tokens).astype(np.int64)
    if not split.n_pairs:
        return stream, np.arange(len(stream)), None, None
    pairs = np.arange(split.n_pairs)
    source, target = split.spans("source", pairs), split.spans("target", pairs)
    before = np.minimum(source[:, 1] - source[:, 0], reach)
    parts = np.stack((before, target[:, 1] - target[:, 0], np.ones_like(before)), 1)  # (P, 3)
    first = np.stack((source[:, 1] - before, target[:, 0], target[:, 1]), 1)
    lengths = parts.flatten()  # (3 P,)
    skipped = first.flatten() - np.cumsum(lengths) + lengths
    places = np.arange(lengths.sum()) + np.repeat(skipped, lengths)  # (T,)
    kind = np.repeat(np.tile(np.arange(3), len(pairs)), lengths)  # source, target, end
    ids = np.where(kind == 2, TextTokenizer.END, stream[np.minimum(places, len(stream) - 1)])
    each = parts.sum(1)
    return ids, places, np.cumsum(each) - each, kind > 0


def read_expert(
    folder: Path, tokenizer: TextTokenizer, order: int, content_sha256: str | None, hint: str
) -> NGramExpert:
    """The counts that a run or an exported folder has.

    Args:
        folder: where their file is.
        tokenizer: of the model.
        order: of its config.
        content_sha256: of the data that it was trained on; None where nobody knows.
        hint: what to do where they cannot be used.

    Raises:
        UsageError: there is no such file, or it is of another tokenizer, order or other data.
        JepalmError: it is damaged.
    """
    path = folder / NGRAM
    if not path.is_file():
        raise UsageError(f"{folder} has no {NGRAM}, the counts that its decoder reads", hint)
    try:
        with safe_open(path, "numpy") as file:
            known = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for fact, right in _facts(tokenizer, order, content_sha256).items():
            if known.get(fact) != right:
                raise UsageError(f"{path} is of {_FACTS[fact]} than its model", hint)
        levels = [_level(arrays, length, tokenizer.vocab_size) for length in range(order)]
        _check(levels)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        raise JepalmError(f"{path} is damaged", hint) from None
    return NGramExpert(NGram(levels, tokenizer.vocab_size))


def _facts(tokenizer: TextTokenizer, order: int, content_sha256: str | None) -> dict[str, str]:
    digest = hashlib.sha256(tokenizer.to_json().encode()).hexdigest()
    data = {} if content_sha256 is None else {"data": content_sha256}
    return {"tokenizer": digest, "order": str(order), **data}


def _level(arrays: dict[str, NDArray[np.int64]], length: int, vocab_size: int) -> Level:
    contexts, pairs, counts = (arrays[f"{name}_{length}"] for name in ("contexts", "pairs", "counts"))
    return Level(contexts, pairs, counts, vocab_size)


def _check(levels: list[Level]) -> None:
    """Raise ValueError where keys are not sorted, or of contexts that there are not, or counts below 1."""
    shorter = 1
    for level in levels:
        right = all(x.ndim == 1 and x.dtype == np.int64 for x in (level.contexts, level.pairs, level.counts))
        right = right and len(level.pairs) == len(level.counts) and bool((level.counts > 0).all())
        for keys, bound in ((level.contexts, shorter), (level.pairs, len(level.contexts))):
            right = right and bool((np.diff(keys) > 0).all())
            right = right and (not len(keys) or (keys[0] >= 0 and keys[-1] < bound * level.vocab_size))
        if not right:
            raise ValueError("no counts")
        shorter = len(level.contexts)
