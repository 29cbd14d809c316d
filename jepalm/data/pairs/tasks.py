"""Rows of published tasks, in the form they are published in, as pairs of source and target.

Each task also takes rows of `{"source", "target"}` and chat rows. What a target must hold so that an answer
can be scored is checked as it is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jepalm.data.pairs.reading import BadRowError, PairRecord, pair_of, pairs_of, read_object
from jepalm.data.prepared import Task
from jepalm.data.regex.pairs import check_pair as check_expression

ALTERNATIVES = "; "
"""Stands between right answers of which each will do."""
FINAL = "####"
"""Stands before the final answer of a solution."""
_DATABASE = re.compile(r"For db_id:\[([^\]\n]+)\]\n")


@dataclass(frozen=True)
class TaskFormat:
    """How rows of a task become pairs."""

    column: str = "source"
    """A column of text that the rows have as they are published."""
    key: str = ""
    """A column that only rows of the published form have; all others are pairs or chats already."""
    convert: Callable[[dict[str, Any]], PairRecord] | None = None
    """Reads a row of the published form; raises `BadRowError`."""
    check: Callable[[PairRecord], None] = lambda pair: None
    """Raises `BadRowError` for a pair that could not be scored."""

    def pairs(self, row: dict[str, Any]) -> list[PairRecord]:
        """Pairs of one row.

        Raises:
            BadRowError: says what is wrong.
        """
        if self.convert is not None and self.key in row and not {"messages", "source"} & row.keys():
            pairs = [self.convert(row)]
        else:
            pairs = pairs_of(row)
        for pair in pairs:
            self.check(pair)
        return pairs

    def parse(self, line: bytes) -> list[PairRecord]:
        """Pairs of one line of JSON."""
        return self.pairs(read_object(line))


def format_of(task: Task) -> TaskFormat:
    """Return how rows of a task are read."""
    return _FORMATS.get(task, TaskFormat())


def database_of(source: str) -> str | None:
    """The name of the database that a question is about, where it begins with one."""
    found = _DATABASE.match(source)
    return found[1] if found else None


def _gsm8k(row: dict[str, Any]) -> PairRecord:
    return pair_of(_text(row, "question"), _text(row, "answer"))


def _spider(row: dict[str, Any]) -> PairRecord:
    question = f"For db_id:[{_text(row, 'db_id')}]\n\n{_text(row, 'question')}"
    return pair_of(question, _text(row, "query"))


def _nq_open(row: dict[str, Any]) -> PairRecord:
    answers = row.get("answer")
    if not isinstance(answers, list) or not answers or not all(isinstance(one, str) for one in answers):
        raise BadRowError("answer is not a list of texts")
    right = [one.strip() for one in answers if one.strip()]
    if not right:
        raise BadRowError("answer is empty")
    return pair_of(_text(row, "question"), ALTERNATIVES.join(right))


def _check_gsm8k(pair: PairRecord) -> None:
    if not pair.target.rpartition(FINAL)[1] or not pair.target.rpartition(FINAL)[2].strip():
        raise BadRowError(f"target has no final answer after {FINAL}")


def _check_spider(pair: PairRecord) -> None:
    if database_of(pair.source) is None:
        raise BadRowError("source names no database", "it begins with For db_id:[NAME] on a line of its own")


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadRowError(f"has no {key}" if value is None else f"{key} is not a text, or is empty")
    return value


_FORMATS: Mapping[Task, TaskFormat] = {
    "regex": TaskFormat(check=check_expression),
    "gsm8k": TaskFormat("question", "question", _gsm8k, _check_gsm8k),
    "spider": TaskFormat("question", "query", _spider, _check_spider),
    "nq-open": TaskFormat("question", "question", _nq_open),
}
