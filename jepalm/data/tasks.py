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

LETTERS = ("A", "B", "C", "D")
"""Names of the endings to choose from."""
ALTERNATIVES = "; "
"""Stands between right answers of which each will do."""
FINAL = "####"
"""Stands before the final answer of a solution."""
LABELS: Mapping[Task, tuple[str, ...]] = {
    "rotten-tomatoes": ("Bad", "Good"),
    "yelp": ("Very Bad", "Bad", "Neutral", "Good", "Very Good"),
}
"""Words for the labels 0, 1, ... of the tasks that have them."""
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
    if task in LABELS:
        return Reading(_published("text", lambda row: _labelled(row, LABELS[task])))
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


def _labelled(row: dict[str, Any], labels: tuple[str, ...]) -> list[Row]:
    return [pair_of(_text(row, "text"), labels[_number(row, "label", len(labels))])]


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


def _hellaswag(row: dict[str, Any]) -> list[Row]:
    endings = row.get("endings")
    if not isinstance(endings, list) or len(endings) != len(LETTERS):
        raise BadRowError(f"endings is not a list of {len(LETTERS)} texts")
    choices = [f"{letter}. {ending}" for letter, ending in zip(LETTERS, endings, strict=True)]
    source = "\n".join([_text(row, "ctx"), *choices])
    return [pair_of(source, LETTERS[_number(row, "label", len(LETTERS))])]


def _check_gsm8k(pair: Row) -> None:
    if not pair.target.rpartition(FINAL)[1] or not pair.target.rpartition(FINAL)[2].strip():
        raise BadRowError(f"target has no final answer after {FINAL}")


def _check_spider(pair: Row) -> None:
    if database_of(pair.source) is None:
        raise BadRowError("source names no database", "it begins with For db_id:[NAME] on a line of its own")


def _check_hellaswag(pair: Row) -> None:
    if pair.target.strip() not in LETTERS:
        raise BadRowError(f"target is not one of {', '.join(LETTERS)}")


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadRowError(f"has no {key}" if value is None else f"{key} is not a text, or is empty")
    return value


def _number(row: dict[str, Any], key: str, n: int) -> int:
    value = row.get(key)
    if not re.fullmatch(r"\d+", str(value)) or int(str(value)) >= n:
        raise BadRowError(f"{key} is not a number from 0 to {n - 1}")
    return int(str(value))


_READINGS: Mapping[Task, Reading] = {
    "regex": Reading(check=check_expression),
    "gsm8k": Reading(_published("question", _gsm8k), _check_gsm8k),
    "spider": Reading(_published("query", _spider), _check_spider),
    "nq-open": Reading(_published("question", _nq_open)),
    "hellaswag": Reading(_published("endings", _hellaswag), _check_hellaswag),
}
_COLUMNS: Mapping[Task, str] = {
    "gsm8k": "question",
    "spider": "question",
    "nq-open": "question",
    "hellaswag": "ctx",
    "rotten-tomatoes": "text",
    "yelp": "text",
}
