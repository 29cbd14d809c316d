"""The order of pairs: a new permutation each pass, computed where it is needed and nowhere kept."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_BLOCK = 4096
_ROUNDS = 6


def shuffled(rows: NDArray[np.int64], n: int, seed: int) -> NDArray[np.int64]:
    """The pairs (B,) at places (B,) of the endless sequence of shuffled passes over n pairs."""
    pairs = np.empty_like(rows)
    blocks = rows // n, rows % n // _BLOCK
    for number, block in sorted(set(zip(*(part.tolist() for part in blocks), strict=True))):
        here = (blocks[0] == number) & (blocks[1] == block)
        order = _block(seed, number, n, block)
        pairs[here] = order[rows[here] % n - block * _BLOCK]
    return pairs


@lru_cache(maxsize=16)
def _block(seed: int, number: int, n: int, block: int) -> NDArray[np.int64]:
    """Places [block * 4096, ...) of the permutation of n that (seed, pass number) decides."""
    keys = np.random.default_rng([seed, number]).integers(0, 2**32, _ROUNDS, dtype=np.uint64)
    return permuted(np.arange(block * _BLOCK, min(n, (block + 1) * _BLOCK)), n, keys)


def permuted(places: NDArray[np.int64], n: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where a keyed permutation of 0..n-1 sends each place, without building the permutation.

    A Feistel network on the next even power of two, walked until it lands below n (Black and
    Rogaway 2002, "Ciphers with arbitrary finite domains"): a pass over a billion pairs costs no
    memory.
    """
    half = np.uint64(max(1, (max(n - 1, 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(half)) - 1)
    found = places.astype(np.uint64)
    outside = np.ones(len(found), dtype=bool)
    while outside.any():
        left, right = found[outside] >> half, found[outside] & low
        for key in keys:
            left, right = right, left ^ (_mixed(right ^ (key << np.uint64(32))) & low)
        found[outside] = (left << half) | right
        outside = found >= n
    return found.astype(np.int64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finishing steps of splitmix64: every input bit moves every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
