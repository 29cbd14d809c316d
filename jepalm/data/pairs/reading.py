"""Pairs in files of JSON rows: `{"source", "target", "action"?}`, chats, and logged transitions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from jepalm.data.prepared import SplitName
from jepalm.data.text.reading import size_of, unreadable
from jepalm.errors import UsageError

LONGEST_ROW = 1 << 24
"""Bytes of one JSON row."""


@dataclass(frozen=True)
class PairRecord:
    """One pair of texts as given."""

    source: str
    target: str
    action: str | None = None


class BadRowError(UsageError):
    """A row that is no pair."""


class PairSource(Protocol):
    """Pairs that can be read more than once, those of a given split after all others."""

    skipped: int
    """Broken rows left out by the last reading."""

    @property
    def n_bytes(self) -> int:
        """Size of what is read."""

    @property
    def given(self) -> dict[SplitName, int]:
        """Rows of the splits that are given rather than cut, in the order they are read, once all are."""

    def read(self) -> Iterator[tuple[bytes, list[PairRecord]]]:
        """Yield the bytes of each row, which are hashed, and its pairs, maybe none; the same each time."""


@dataclass
class PairFiles:
    """Files of JSON rows."""

    path: Path
    skip_bad: bool = False
    """Leave broken rows out and count them."""
    held_out: dict[SplitName, Path] = field(default_factory=dict)
    """Files of whole splits, apart from `path`."""
    parse: Callable[[bytes], list[PairRecord]] = field(default_factory=lambda: parse_row)
    """Reads the pairs of one line; raises `BadRowError` where there are none."""
    skipped: int = 0
    given: dict[SplitName, int] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        """Size of all files."""
        return sum(size_of(path) for path in (self.path, *self.held_out.values()))

    def read(self) -> Iterator[tuple[bytes, list[PairRecord]]]:
        """Yield each line and its pairs: one, or one for each answered turn of a chat.

        Raises:
            BadRowError: a row is no pair and `skip_bad` is not set; names file and line number.
            UsageError: a file cannot be read or is empty.
        """
        self.skipped = 0
        self.given = {}
        has_action: bool | None = None
        for name, path in {"train": self.path, **self.held_out}.items():
            if name != "train":
                yield f"\0{name}\0".encode(), []  # the same rows split otherwise are other data
            count = 0
            for number, line in _lines(path):
                pairs: list[PairRecord] = []
                if number is not None and line.strip():
                    try:
                        pairs = self.parse(line)
                        has_action = _check_actions(pairs, has_action)
                    except BadRowError as error:
                        if not self.skip_bad:
                            raise located(error, f"{path}, line {number}") from None
                        self.skipped += 1
                        pairs = []
                count += bool(pairs)
                yield line, pairs
            if name in self.held_out:
                self.given[name] = count
                if not count:
                    raise UsageError(
                        f"{path} holds no pair for {name}", "give a file with one JSON row a line"
                    )


def located(error: BadRowError, where: str) -> BadRowError:
    """The same error with the place of the row, and the way to go on without it."""
    return BadRowError(f"{where}: {error.message}", error.hint or "--skip-bad leaves such rows out")


def parse_row(line: bytes) -> list[PairRecord]:
    """Read `{"source", "target", "action"?}` or a chat row `{"messages": [...]}`.

    Raises:
        BadRowError: says what is wrong; the caller knows where.
    """
    return pairs_of(read_object(line))


def pairs_of(row: dict[str, Any]) -> list[PairRecord]:
    """Return the pairs of `{"source", "target", "action"?}` or of a chat row.

    Raises:
        BadRowError: says what is wrong.
    """
    if "messages" in row:
        return _chat_pairs(row["messages"], row.get("action"))
    _has_all(row, ("source", "target"), 'rows are {"source": ..., "target": ...} or {"messages": [...]}')
    return [pair_of(row["source"], row["target"], row.get("action"))]


def parse_transition(line: bytes) -> list[PairRecord]:
    """Read `{"state", "action", "next_state"}` as source, action and target.

    Raises:
        BadRowError: says what is wrong; the caller knows where.
    """
    row = read_object(line)
    keys = ("state", "action", "next_state")
    _has_all(row, keys, 'rows are {"state": ..., "action": ..., "next_state": ...}')
    for key in keys:
        _check_text(key, row[key])
    return [PairRecord(row["state"], row["next_state"], row["action"])]


def pair_of(source: Any, target: Any, action: Any = None) -> PairRecord:
    """Return a pair of texts.

    Raises:
        BadRowError: one of them is no text, or empty.
    """
    for key, value in (("source", source), ("target", target), ("action", action)):
        if key != "action" or value is not None:
            _check_text(key, value)
    return PairRecord(source, target, action)


def read_object(line: bytes) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        BadRowError: it is none, or too long.
    """
    if len(line) > LONGEST_ROW:
        raise BadRowError(f"longer than {LONGEST_ROW >> 20} MiB")
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadRowError(f"not UTF-8 at byte {error.start} of the line") from None
    except json.JSONDecodeError as error:
        raise BadRowError(
            f"not JSON: {error.msg[0].lower()}{error.msg[1:]} at column {error.colno}"
        ) from None
    except (RecursionError, ValueError):
        raise BadRowError("not JSON that can be read") from None
    if not isinstance(row, dict):
        raise BadRowError("not a JSON object")
    return row


def _check_actions(pairs: list[PairRecord], has_action: bool | None) -> bool:
    """Whether all rows so far have an action; all or none do."""
    if has_action is None:
        has_action = pairs[0].action is not None
    elif any((pair.action is not None) != has_action for pair in pairs):
        raise BadRowError(
            "has no action, but earlier rows do"
            if has_action
            else "has an action, but earlier rows have none"
        )
    return has_action


def _has_all(row: dict[str, Any], keys: tuple[str, ...], hint: str) -> None:
    for key in keys:
        if key not in row:
            raise BadRowError(f"has no {key}", hint)


def _chat_pairs(messages: Any, action: Any) -> list[PairRecord]:
    if not isinstance(messages, list):
        raise BadRowError("messages is not a list")
    pairs = []
    asked: Any = None
    for message in messages:
        if not isinstance(message, dict) or "role" not in message or "content" not in message:
            raise BadRowError("a message lacks role or content")
        if message["role"] == "user":
            asked = message["content"]
        elif message["role"] == "assistant" and asked is not None:
            pairs.append(pair_of(asked, message["content"], action))
            asked = None
    if not pairs:
        raise BadRowError("has no user turn that an assistant turn answers")
    return pairs


def _check_text(key: str, value: Any) -> None:
    if not isinstance(value, str):
        raise BadRowError(f"{key} is not a text")
    if not value:
        raise BadRowError(f"{key} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRowError(f"{key} holds half a surrogate pair") from None


def _lines(path: Path) -> Iterator[tuple[int | None, bytes]]:
    """Yield each line and its number; what follows the first 16 MiB of a line comes apart, without one."""
    number = 0
    try:
        with open(path, "rb") as file:
            while line := file.readline(LONGEST_ROW + 1):
                number += 1
                yield number, line
                while not line.endswith(b"\n") and (line := file.readline(LONGEST_ROW + 1)):
                    yield None, line
    except OSError as error:
        raise unreadable(path, error) from None
    if not number:
        raise UsageError(f"{path} is empty", "give a file with one JSON row a line")
