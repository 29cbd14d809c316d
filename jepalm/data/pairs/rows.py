"""Pairs that a program has in memory: the same rows as in a file, or tuples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jepalm.data.pairs.chats import LeftOut
from jepalm.data.pairs.reading import PairSource, check_actions, located
from jepalm.data.pairs.records import BadRowError, PairRecord
from jepalm.data.prepared import SplitName
from jepalm.errors import UsageError

Row = Mapping[str, Any] | tuple[str, str] | tuple[str, str, str]
"""`{"source", "target", "action"?}`, a chat, an instruction; or a tuple of source, target, maybe action."""


@dataclass
class PairRows(PairSource):
    """Rows by split, `train` first; the splits after it are given, the others are cut from train."""

    rows: Mapping[SplitName, list[Row]]
    pairs_of: Callable[[dict[str, Any], LeftOut], list[PairRecord]]
    """The pairs of a row; counts what it leaves out, raises `BadRowError` where there are none."""
    n_bytes: int = 0
    """Of all rows as JSON, once they are read."""

    def read(self) -> Iterator[tuple[bytes, list[PairRecord]]]:
        """Yield each row and its pairs; a broken one is an error.

        Raises:
            BadRowError: a row is no pair; names its split and its number.
            UsageError: a split has no pair.
        """
        self.left_out, self.given, n_bytes = Counter(), {}, 0
        has_action: bool | None = None
        for name, rows in self.rows.items():
            if name != "train":
                yield f"\0{name}\0".encode(), []  # the same rows split otherwise are other data
            good = 0
            for number, row in enumerate(rows, 1):
                try:
                    tree = as_mapping(row)
                    pairs = self.pairs_of(tree, self.left_out)
                    has_action = check_actions(pairs, has_action)
                    raw = json.dumps(tree).encode() + b"\n"
                except BadRowError as error:
                    raise located(error, f"row {number} of {name}", "mend the row, or leave it out") from None
                except (TypeError, ValueError):
                    raise BadRowError(f"row {number} of {name} has what JSON does not know") from None
                good += bool(pairs)
                n_bytes += len(raw)
                yield raw, pairs
            if not good:
                raise UsageError(
                    f"there is no pair for {name}", 'rows are (source, target) or {"source", "target"}'
                )
            if name != "train":
                self.given[name] = good
        self.n_bytes = n_bytes


def rows_by_split(
    train: Iterable[Row], validation: Iterable[Row] | None = None, test: Iterable[Row] | None = None
) -> dict[SplitName, list[Row]]:
    """Rows by split, those that are given."""
    given: dict[SplitName, Iterable[Row] | None] = {"train": train, "validation": validation, "test": test}
    return {name: list(rows) for name, rows in given.items() if rows is not None}


def as_mapping(row: Any) -> dict[str, Any]:
    """A row as an object.

    Raises:
        BadRowError: it is neither an object nor a tuple of two or three.
    """
    if isinstance(row, Mapping):
        return dict(row)
    if not isinstance(row, tuple | list) or len(row) not in (2, 3):
        raise BadRowError("is neither a mapping nor a source, a target and maybe an action")
    return dict(zip(("source", "target", "action"), row, strict=False))
