"""Equal pairs in several splits: counted, or kept in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from jepalm.data.prepared import Request, SplitName
from jepalm.data.text.splitting import Block
from jepalm.errors import UsageError
from jepalm.numbers import counted

SPLIT_NAMES: tuple[SplitName, ...] = get_args(SplitName)
LEFT_OUT = -1
"""In place of a split's number: of no split."""

Places = NDArray[np.int8]
"""The split of each row, a place in `SPLIT_NAMES`, (R,)."""


class RowKeys(NamedTuple):
    """What equal pairs share, and the rows that they stand in.

    Attributes:
        pair: a number that equal pairs share, (P,).
        row: the row of each pair, (P,).
    """

    pair: NDArray[np.int64]
    row: NDArray[np.int64]

    @classmethod
    def of(cls, keys: Sequence[int], ends: Sequence[int]) -> RowKeys:
        """Of the hash of each pair, and where each row ends among the pairs."""
        edges = np.array([0, *ends], dtype=np.int64)  # (rows + 1,)
        counts = edges[1:] - edges[:-1]
        return cls(np.asarray(keys, dtype=np.int64), np.repeat(np.arange(len(counts)), counts))


def splits_of_rows(blocks: Sequence[Block], n_rows: int) -> Places:
    """The split of each row, as blocks cut them."""
    places: Places = np.full(n_rows, LEFT_OUT, dtype=np.int8)
    start = 0
    for name, end in blocks:
        if name is not None:
            places[start:end] = SPLIT_NAMES.index(name)
        start = end
    return places


def repeated_pairs(places: Places, keys: RowKeys) -> dict[SplitName, int]:
    """How many pairs of each held-out split stand in train, too; those of which some do."""
    split_of_pair = places[keys.row]
    known = keys.pair[split_of_pair == SPLIT_NAMES.index("train")]
    found: dict[SplitName, int] = {}
    for place, name in enumerate(SPLIT_NAMES):
        if name != "train" and (count := int(np.isin(keys.pair[split_of_pair == place], known).sum())):
            found[name] = count
    return found


def grouped_splits(
    places: Places, keys: RowKeys, request: Request, given: Mapping[SplitName, int]
) -> tuple[Places, int]:
    """Keep rows that share a pair in one split.

    Groups go into the splits in the order of their first rows: the last ones to test, those before to
    validation, until each has its percent of the rows. Given splits stay as they are; what they hold is
    left out elsewhere.

    Args:
        places: the split of each row without grouping, (R,).
        keys: of the pairs.
        request: its percents.
        given: rows of the splits that are given.

    Returns:
        The split of each row, (R,), and how many rows are left out for standing in a given split.

    Raises:
        UsageError: the groups do not fill every split.
    """
    group = _groups(keys, len(places))
    n_groups = int(group.max(initial=-1)) + 1
    fixed = np.isin(places, [SPLIT_NAMES.index(name) for name in given])
    taken = np.zeros(n_groups, dtype=bool)
    taken[group[fixed]] = True
    gone = taken[group] & ~fixed
    free = ~taken[group] & ~fixed
    sizes = np.bincount(group[free], minlength=n_groups)  # (G,) rows that are to be split
    candidates = np.flatnonzero(sizes)
    of_group = np.full(n_groups, SPLIT_NAMES.index("train"), dtype=np.int8)
    left = len(candidates)
    for name, percent in zip(("test", "validation"), request.split[:0:-1], strict=True):
        if name in given:
            continue
        wanted, filled = max(1, round(int(sizes.sum()) * percent / 100)), 0
        while filled < wanted and left:
            left -= 1
            of_group[candidates[left]] = SPLIT_NAMES.index(name)
            filled += int(sizes[candidates[left]])
    if not left:
        what = counted(len(candidates), "different pair")
        raise UsageError(
            f"with --dedup train would be empty: {what}, equal ones in one split", "give more rows"
        )
    grouped = np.where(free, of_group[group], places).astype(np.int8)
    grouped[gone] = LEFT_OUT
    return grouped, int(gone.sum())


def _groups(keys: RowKeys, n_rows: int) -> NDArray[np.int64]:
    """A number for each row, in the order of first rows, which rows that share a pair share, (R,)."""
    from scipy.sparse import coo_array  # for --dedup alone: it takes a while to load
    from scipy.sparse.csgraph import connected_components

    _, pair = np.unique(keys.pair, return_inverse=True)
    n_pairs = int(pair.max(initial=-1)) + 1
    shape = (n_rows + n_pairs, n_rows + n_pairs)
    edges = coo_array((np.ones(len(pair), dtype=np.int8), (keys.row, n_rows + pair)), shape=shape)
    _, labels = connected_components(edges, directed=False)
    _, first, group = np.unique(labels[:n_rows], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group]
