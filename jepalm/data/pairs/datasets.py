"""Pairs from a dataset of the `datasets` library: on the hub, or a folder of its files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from jepalm.data.hub import OpenDataset
from jepalm.data.pairs.chats import LeftOut, in_words
from jepalm.data.pairs.reading import SKIP_HINT, PairSource, check_actions, located
from jepalm.data.pairs.records import BadRowError, PairRecord
from jepalm.data.pairs.tasks import TaskFormat
from jepalm.errors import UsageError


@dataclass
class DatasetPairs(PairSource):
    """The rows of a dataset as a task reads them; a held-out split that it has stays one."""

    dataset: OpenDataset
    task_format: TaskFormat
    skip_bad: bool = False
    _n_read: int = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of the texts as JSON rows, once all are read; before, what the dataset says."""
        return self._n_read or self.dataset.n_bytes

    def read(self) -> Iterator[tuple[bytes, list[PairRecord]]]:
        """Yield the pairs of each good row, and these as JSON.

        Raises:
            BadRowError: a row is no pair of the task and `skip_bad` is not set; names split and number.
            UsageError: train has no pair, or the files cannot be read.
            JepalmError: the network failed.
        """
        self.skipped, self.left_out, self.given, n_read = 0, Counter(), {}, 0
        has_action: bool | None = None
        for name in self.dataset.streams:
            yield f"\0{name}\0".encode(), []
            good = 0
            for number, row in enumerate(self.dataset.rows(name), 1):
                try:
                    left_out: LeftOut = Counter()
                    pairs = self.task_format.pairs(row, left_out)
                    has_action = check_actions(pairs, has_action)
                    self.left_out += left_out
                except BadRowError as error:
                    if not self.skip_bad:
                        hint = SKIP_HINT if good else f"see the rows of {self.dataset.name}"
                        raise located(error, f"{self.dataset.name}, {name}, row {number}", hint) from None
                    self.skipped += 1
                    continue
                texts = [[pair.source, pair.target, pair.action] for pair in pairs]
                line = json.dumps([row if row[-1] is not None else row[:-1] for row in texts]).encode()
                n_read += len(line)
                good += bool(pairs)
                yield line, pairs
            if name == "train" and not good:
                why = f"left out: {in_words(self.left_out)}" if self.left_out else "see its rows"
                raise UsageError(f"{self.dataset.name} has no pair in train", why)
            if name != "train" and good:
                self.given[name] = good
        self._n_read = n_read
