"""Rows of published tasks, in the form they are published in, as pairs of source and target.

Each task also takes rows of `{"source", "target"}` and chat rows. What a target must hold so that an answer
can be scored is checked as it is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from jepalm.data.pairs.chats import CHAT_COLUMNS, LeftOut
from jepalm.data.pairs.queries import fault_of
from jepalm.data.pairs.reading import pairs_of
from jepalm.data.pairs.records import BadRowError, PairRecord, pair_of
from jepalm.data.prepared import Task
from jepalm.data.regex.pairs import check_pair as check_expression

ALTERNATIVES = "; "
"""Stands between right answers of which each will do."""
_COMMON = ("source", *CHAT_COLUMNS)
"""Of which a row has one that is a pair, a chat or an instruction already."""
FINAL = "####"
"""Stands before the final answer of a solution."""
_NUMBER = re.compile(r"([-+]?)\$?(\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)\.?", re.ASCII)
_DATABASE = re.compile(r"For db_id:\[([^\]\n]+)\]\n")


@dataclass(frozen=True)
class TaskFormat:
    """How rows of a task become pairs."""

    key: str = ""
    """A column that only rows of the published form have; all others are pairs or chats already."""
    convert: Callable[[dict[str, Any]], PairRecord] | None = None
    """Reads a row of the published form; raises `BadRowError`."""
    check: Callable[[PairRecord], None] = lambda pair: None
    """Raises `BadRowError` for a pair that could not be scored."""
    system: bool = False
    """Keep what the system says in a chat, in front of each source."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Of which its rows have one."""
        return tuple(filter(None, (self.key, *_COMMON)))

    def pairs(self, row: dict[str, Any], left_out: LeftOut) -> list[PairRecord]:
        """Pairs of one row; counts what is left out of it.

        Raises:
            BadRowError: says what is wrong.
        """
        given = {key for key, value in row.items() if value is not None}
        if self.convert is not None and self.key in given and given.isdisjoint(_COMMON):
            pairs = [self.convert(row)]
        else:
            pairs = pairs_of(row, left_out, self.system)
        for pair in pairs:
            self.check(pair)
        return pairs


def format_of(task: Task, system: bool = False) -> TaskFormat:
    """Return how rows of a task are read.

    Args:
        task: its name.
        system: whether what the system says in a chat is kept.
    """
    return replace(_FORMATS.get(task, TaskFormat()), system=system)


def final_answer(solution: str) -> Decimal | str | None:
    """What stands behind the last `####` on its line, as a number where it is one; None where nothing does.

    A dollar sign, commas between thousands, a closing full stop and zeros at the end change no number.
    """
    _, mark, rest = solution.rpartition(FINAL)
    text = rest.split("\n")[0].strip()
    if not mark or not text:
        return None
    number = _NUMBER.fullmatch(text)
    return Decimal(number[1] + number[2].replace(",", "")) if number else text


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
    if final_answer(pair.target) is None:
        raise BadRowError(f"target has no final answer after {FINAL}")


def _check_spider(pair: PairRecord) -> None:
    if database_of(pair.source) is None:
        raise BadRowError("source names no database", "it begins with For db_id:[NAME] on a line of its own")
    if fault := fault_of(pair.target):
        raise BadRowError(f"target is no SQL query: {fault}")


def _check_g2p(pair: PairRecord) -> None:
    if not pair.target.split():
        raise BadRowError("target has no phoneme")
    if ALTERNATIVES in pair.target:
        raise BadRowError("target holds several pronunciations", "one row for each, with the same source")


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadRowError(f"has no {key}" if value is None else f"{key} is not a text, or is empty")
    return value


_FORMATS: Mapping[Task, TaskFormat] = {
    "regex": TaskFormat(check=check_expression),
    "gsm8k": TaskFormat("question", _gsm8k, _check_gsm8k),
    "spider": TaskFormat("query", _spider, _check_spider),
    "nq-open": TaskFormat("question", _nq_open),
    "g2p": TaskFormat(check=_check_g2p),
}
