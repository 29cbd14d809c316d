"""Rows of published tasks, in the form they are published in, as pairs of source and target.

Each task also takes rows of `{"source", "target"}` and chat rows. What a target must hold so that an answer
can be scored is checked as it is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jepalm.data.prepared import Task
from jepalm.data.reading import BadRowError, Row, pair_of, read_object, rows_of
from jepalm.data.regex.pairs import check_pair as check_expression

ALTERNATIVES = "; "
"""Stands between right answers of which each will do."""
FINAL = "####"
"""Stands before the final answer of a solution."""
_DATABASE = re.compile(r"For db_id:\[([^\]\n]+)\]\n")

Convert = Callable[[dict[str, Any]], list[Row]]
Check = Callable[[Row], None]


@dataclass(frozen=True)
class Reading:
    """How rows of a task become pairs."""

    convert: Convert = rows_of
    """Of one JSON object; raises `BadRowError`."""
    check: Check = lambda pair: None
    """Raises `BadRowError` for a pair that could not be scored."""

    def parse(self, line: bytes) -> list[Row]:
        """Pairs of one line of JSON."""
        return self.convert(read_object(line))


def reading_of(task: Task) -> Reading:
    """Return how rows of a task are read."""
    return _READINGS.get(task, Reading())


def database_of(source: str) -> str | None:
    """The name of the database that a question is about, where it begins with one."""
    found = _DATABASE.match(source)
    return found[1] if found else None


def column_of(task: Task) -> str:
    """A column of text that rows of a task have as they are published."""
    return _COLUMNS.get(task, "source")


def _published(key: str, convert: Convert) -> Convert:
    """Convert rows that have the key of the published form; the others are pairs or chats already."""
    return lambda row: rows_of(row) if {"messages", "source"} & row.keys() or key not in row else convert(row)


def _gsm8k(row: dict[str, Any]) -> list[Row]:
    return [pair_of(_text(row, "question"), _text(row, "answer"))]


def _spider(row: dict[str, Any]) -> list[Row]:
    question = f"For db_id:[{_text(row, 'db_id')}]\n\n{_text(row, 'question')}"
    return [pair_of(question, _text(row, "query"))]


def _nq_open(row: dict[str, Any]) -> list[Row]:
    answers = row.get("answer")
    if not isinstance(answers, list) or not answers or not all(isinstance(one, str) for one in answers):
        raise BadRowError("answer is not a list of texts")
    right = [one.strip() for one in answers if one.strip()]
    if not right:
        raise BadRowError("answer is empty")
    return [pair_of(_text(row, "question"), ALTERNATIVES.join(right))]


def _check_gsm8k(pair: Row) -> None:
    if not pair.target.rpartition(FINAL)[1] or not pair.target.rpartition(FINAL)[2].strip():
        raise BadRowError(f"target has no final answer after {FINAL}")


def _check_spider(pair: Row) -> None:
    if database_of(pair.source) is None:
        raise BadRowError("source names no database", "it begins with For db_id:[NAME] on a line of its own")


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadRowError(f"has no {key}" if value is None else f"{key} is not a text, or is empty")
    return value


_READINGS: Mapping[Task, Reading] = {
    "regex": Reading(check=check_expression),
    "gsm8k": Reading(_published("question", _gsm8k), _check_gsm8k),
    "spider": Reading(_published("query", _spider), _check_spider),
    "nq-open": Reading(_published("question", _nq_open)),
}
_COLUMNS: Mapping[Task, str] = {
    "gsm8k": "question",
    "spider": "question",
    "nq-open": "question",
}
