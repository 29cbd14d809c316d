"""Pairs from a dataset of the `datasets` library: on the hub, or a folder of its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from jepalm.data.hub import HubText
from jepalm.data.prepared import SplitName
from jepalm.data.reading import Advance, BadRowError, Row
from jepalm.data.tasks import Reading
from jepalm.errors import UsageError


@dataclass
class HubRows:
    """The rows of a dataset as a task reads them; a held-out split that it has stays one."""

    opened: HubText
    reading: Reading
    skip_bad: bool = False
    skipped: int = 0
    """Broken rows left out by the last reading."""
    given: dict[SplitName, int] = field(default_factory=dict)
    """Rows of the held-out splits that the dataset has, once all are read."""
    _read: int = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of the texts as JSON rows, once all are read; before, what the dataset tells."""
        return self._read or self.opened.n_bytes

    def rows(self, digest: Any = None, advance: Advance | None = None) -> Iterator[list[Row]]:
        """Yield the pairs of each good row.

        Raises:
            BadRowError: a row is no pair of the task and `skip_bad` is not set; names split and number.
            UsageError: train has no pair, or the files cannot be read.
            JepalmError: the network failed.
        """
        self.skipped, self.given, read = 0, {}, 0
        for name in self.opened.parts:
            good = 0
            if digest is not None:
                digest.update(f"\0{name}\0".encode())
            for pairs in self._pairs(name):
                line = json.dumps([[pair.source, pair.target] for pair in pairs]).encode()
                read += len(line)
                good += 1
                if digest is not None:
                    digest.update(line)
                if advance is not None:
                    advance(len(line))
                yield pairs
            if name != "train" and good:
                self.given[name] = good
            elif not good and name == "train":
                raise UsageError(f"{self.opened.corpus.dataset} has no pair in train", "see its rows")
        self._read = read

    def _pairs(self, name: SplitName) -> Iterator[list[Row]]:
        for number, row in enumerate(self.opened.rows(name), 1):
            try:
                pairs = self.reading.convert(row)
                for pair in pairs:
                    self.reading.check(pair)
            except BadRowError as error:
                if not self.skip_bad:
                    where = f"{self.opened.corpus.dataset}, {name}, row {number}"
                    hint = error.hint or "--skip-bad leaves such rows out"
                    raise BadRowError(f"{where}: {error.message}", hint) from None
                self.skipped += 1
                continue
            yield pairs
