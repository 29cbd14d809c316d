"""SQL queries, run so that they change nothing, and what can be checked without their database."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

SECONDS = 10.0
"""Longest time of a query."""
MOST_ROWS = 100_000
"""Rows after which a result is too large to compare."""
_LONGEST_VALUE = 1 << 24
_STEPS_AT_ONCE = 1000
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/""", re.DOTALL)
_READS = re.compile(r"\s*(?:select|with|values)\b", re.IGNORECASE)
_NEEDS_THE_DATABASE = ("no such table", "no such column")

Rows = list[tuple[Any, ...]]


class QueryError(Exception):
    """A query that gives no result; says why."""


def fault_of(query: str) -> str:
    """What would keep a query from running on any database; empty where nothing would.

    Whether its tables and columns exist only the database can say.
    """
    bare = _QUOTED.sub("''", query)
    if ";" in bare.rstrip().rstrip(";"):
        return "it is no single query"
    try:
        execute(None, query)
    except QueryError as error:
        fault = str(error)
        if not fault.startswith(_NEEDS_THE_DATABASE):
            return fault
    return "" if _READS.match(re.sub(r"^\s*''", "", bare)) else "it is no query"


def execute(
    path: Path | None, query: str, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
) -> Rows:
    """Run one query on a database file that is only read.

    Args:
        path: of the file; None: an empty database.
        query: one query.
        seconds: longest time that it may take.
        clock: seconds that go by.

    Raises:
        QueryError: it fails, writes, is no single query, takes too long or finds too much.
    """
    start = clock()
    where = f"{path.resolve().as_uri()}?mode=ro&immutable=1" if path else "file::memory:"
    try:
        with closing(sqlite3.connect(where, uri=True)) as database:
            database.text_factory = lambda raw: raw.decode(errors="replace")
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
            database.set_authorizer(
                lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY
            )
            database.set_progress_handler(lambda: clock() - start > seconds, _STEPS_AT_ONCE)
            cursor = database.execute(query)
            if cursor.description is None:
                raise QueryError("it is no query")
            rows = cursor.fetchmany(MOST_ROWS + 1)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
        raise QueryError(str(error)) from None
    if len(rows) > MOST_ROWS:
        raise QueryError(f"it finds more than {MOST_ROWS:,} rows")
    return [tuple(_plain(value) for value in row) for row in rows]


def orders(query: str) -> bool:
    """Whether a query orders its result, not only that of a query inside it."""
    depth = 0
    bare = _QUOTED.sub("''", query).lower()
    for part in re.finditer(r"[()]|\border\s+by\b", bare):
        if part[0] in "()":
            depth += 1 if part[0] == "(" else -1
        elif depth == 0:
            return True
    return False


def _plain(value: Any) -> Any:
    """Numbers to 12 digits: the order of a sum changes the last ones."""
    return float(f"{value:.12g}") if isinstance(value, float) else value
