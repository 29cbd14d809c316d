"""SQL by what it finds, on databases that nothing can change (Yu et al. 2018, arXiv 1809.08887)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from jepalm.data.pairs.queries import SECONDS, QueryError, Rows, execute, orders
from jepalm.data.pairs.tasks import database_of
from jepalm.errors import UsageError
from jepalm.evaluation.answers.tasks.shares import Answered, Share, exact_match


@dataclass
class Databases:
    """A folder of sqlite files, `NAME/NAME.sqlite` or `NAME.sqlite`, and what queries found in them."""

    folder: Path
    seconds: float = SECONDS
    clock: Callable[[], float] = time.monotonic
    _known: dict[tuple[str, str], Rows | str] = field(default_factory=dict)

    def find(self, name: str, query: str) -> Rows:
        """Return the rows that a query finds.

        Raises:
            QueryError: it fails, writes, is no single query, takes too long or finds too much.
            UsageError: there is no such database.
        """
        if (name, query) not in self._known:
            path = self._path(name)
            try:
                self._known[name, query] = execute(path, query, self.seconds, self.clock)
            except QueryError as error:
                self._known[name, query] = str(error)
        found = self._known[name, query]
        if isinstance(found, str):
            raise QueryError(found)
        return found

    def _path(self, name: str) -> Path:
        for path in (self.folder / name / f"{name}.sqlite", self.folder / f"{name}.sqlite"):
            if Path(name).name == name and path.is_file():
                return path
        raise UsageError(f"no database {name} under {self.folder}", "it holds NAME/NAME.sqlite for each")


def score_spider(answered: Answered, databases: Databases | None = None) -> list[Share]:
    """Exact match, and with databases execution: the same rows, in order where the gold query orders.

    An answer that is empty, fails or writes is wrong, also where the gold query finds nothing. Since many
    a wrong query finds nothing, the share is given for gold that finds something, too.

    Raises:
        UsageError: a gold query fails, or its database is missing.
    """
    if databases is None:
        return [exact_match(answered)]
    right, found, failed = [], [], []
    for source, gold, written in zip(answered.sources, answered.gold, answered.written, strict=True):
        name = database_of(source)
        if name is None:
            raise UsageError(f"the question {source[:60]!r} names no database")
        try:
            wanted = databases.find(name, gold)
        except QueryError as error:
            raise UsageError(f"the gold query {gold!r} fails in {name}: {error}") from None
        found.append(bool(wanted))
        try:
            right.append(same_rows(wanted, databases.find(name, written), ordered=orders(gold)))
            failed.append(False)
        except QueryError:
            right.append(False)
            failed.append(True)
    return [
        exact_match(answered),
        Share.of("execution", right),
        Share.of("execution_nonempty", right, found),
        Share.of("malformed", failed),
    ]


def same_rows(wanted: Rows, found: Rows, *, ordered: bool) -> bool:
    """Whether two results are the same, as lists or each row as often."""
    return wanted == found if ordered else Counter(wanted) == Counter(found)
