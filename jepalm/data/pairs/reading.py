"""Pairs in files of JSON rows: `{"source", "target", "action"?}`, chats, instructions, transitions."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from jepalm.data.pairs.chats import (
    CHAT_KEYS,
    INSTRUCTION,
    ROLE_KEYS,
    LeftOut,
    chat_pairs,
    in_words,
    instruction_pairs,
)
from jepalm.data.pairs.records import BadRowError, PairRecord, check_text, pair_of
from jepalm.data.prepared import SplitName
from jepalm.data.text.reading import size_of, unreadable
from jepalm.encodings import HEAD_BYTES, MARK, check_encoding, way_to_utf8
from jepalm.errors import UsageError

LONGEST_ROW = 1 << 24
"""Bytes of one JSON row."""
LONGEST_ARRAY = 1 << 28
"""Bytes of a JSON array of rows, which is read whole."""
_KEYS_SHOWN = 6
_LOOKED_AHEAD = 1000
"""Rows behind a broken first one among which a good one is looked for."""
PAIR_FORMS = (
    'rows are {"source": ..., "target": ...}, {"messages": [...]}, {"conversations": [...]}'
    ' or {"instruction": ..., "output": ...}'
)
TRANSITION_FORM = 'rows are {"state": ..., "action": ..., "next_state": ...}'


@dataclass
class PairSource:
    """Pairs that can be read more than once, those of a given split after all others."""

    skipped: int = field(default=0, init=False)
    """Broken rows left out by the last reading."""
    left_out: LeftOut = field(default_factory=Counter, init=False)
    """What the last reading left out of good rows, such as turns without text."""
    given: dict[SplitName, int] = field(default_factory=dict, init=False)
    """Rows of the splits that are given rather than cut, in the order they are read, once all are."""

    @property
    def n_bytes(self) -> int:
        """Size of what is read."""
        raise NotImplementedError

    def read(self) -> Iterator[tuple[bytes, list[PairRecord]]]:
        """Yield the bytes of each row, which are hashed, and its pairs, maybe none; the same each time."""
        raise NotImplementedError


class RawRow(NamedTuple):
    """One row of a file.

    Attributes:
        place: such as `line 3`; empty for what is no row of its own.
        raw: its bytes.
        value: of a row of an array, which is parsed already.
    """

    place: str
    raw: bytes
    value: Any = None


@dataclass
class PairFiles(PairSource):
    """Files of JSON rows: one a line, or one array of them."""

    path: Path
    skip_bad: bool = False
    """Leave broken rows out and count them."""
    held_out: dict[SplitName, Path] = field(default_factory=dict)
    """Files of whole splits, apart from `path`."""
    pairs_of: Callable[[dict[str, Any], LeftOut], list[PairRecord]] = field(default_factory=lambda: pairs_of)
    """The pairs of a row; counts what it leaves out, raises `BadRowError` where there are none."""
    forms: str = PAIR_FORMS
    """What rows look like, for whoever has none that is good."""

    @property
    def n_bytes(self) -> int:
        """Size of all files."""
        return sum(size_of(path) for path in (self.path, *self.held_out.values()))

    def read(self) -> Iterator[tuple[bytes, list[PairRecord]]]:
        """Yield each row and its pairs: one, or one for each answered turn of a chat.

        Raises:
            BadRowError: a row is no pair and `skip_bad` is not set; names file and line number.
            UsageError: a file cannot be read, is empty, or holds no pair.
        """
        self.skipped, self.left_out, self.given = 0, Counter(), {}
        has_action: bool | None = None
        for name, path in {"train": self.path, **self.held_out}.items():
            if name != "train":
                yield f"\0{name}\0".encode(), []  # the same rows split otherwise are other data
            count = 0
            first_fault: BadRowError | None = None
            for row in _rows(path):
                pairs: list[PairRecord] = []
                if row.place:
                    try:
                        left_out: LeftOut = Counter()
                        pairs = self.pairs_of(_value(row), left_out)
                        has_action = check_actions(pairs, has_action)
                        self.left_out += left_out
                    except BadRowError as error:
                        if not self.skip_bad:
                            hint = SKIP_HINT if count else self._way_on(path, row.place)
                            raise located(error, f"{path}, {row.place}", hint) from None
                        first_fault = first_fault or located(error, row.place, "")
                        self.skipped += 1
                        pairs = []
                count += bool(pairs)
                yield row.raw, pairs
            if name in self.held_out:
                self.given[name] = count
            if not count:
                what = f"{path} holds no pair" + (f" for {name}" if name in self.held_out else "")
                why = f"left out: {in_words(self.left_out)}" if self.left_out else "give one JSON row a line"
                raise UsageError(what, str(first_fault or why))

    def _way_on(self, path: Path, place: str) -> str:
        """What to do about a broken row before which none was good: leave it out, if one behind it is."""
        rows = iter(_rows(path))
        for row in rows:
            if row.place == place:
                break
        for row in islice(rows, _LOOKED_AHEAD):
            try:
                if row.place and self.pairs_of(_value(row), Counter()):
                    return SKIP_HINT
            except BadRowError:
                continue
        return _conversion(path) or self.forms


SKIP_HINT = "--skip-bad leaves such rows out"


def located(error: BadRowError, where: str, hint: str = SKIP_HINT) -> BadRowError:
    """The same error with the place of the row, and the way to go on without it.

    Args:
        error: its own hint goes first, and alone where the other is not to leave the row out.
        where: the place.
        hint: the way on.
    """
    hints = (error.hint, hint) if hint == SKIP_HINT else (error.hint or hint,)
    return BadRowError(f"{where}: {error.message}", "; ".join(filter(None, hints)))


def pairs_of(row: dict[str, Any], left_out: LeftOut, system: bool = False) -> list[PairRecord]:
    """Return the pairs of `{"source", "target", "action"?}`, of a chat row or of an instruction.

    Args:
        row: as given.
        left_out: counts what is left out of it.
        system: whether what the system says in a chat is kept, in front of each source.

    Raises:
        BadRowError: says what is wrong.
    """
    given = {key for key, value in row.items() if value is not None}  # a table has every column in each row
    chats = sorted((key for key in CHAT_KEYS if key in given), key=lambda key: not row[key])
    if chats and (row[chats[0]] or not given & {"source", INSTRUCTION}):
        return chat_pairs(row[chats[0]], row, left_out, system)
    if INSTRUCTION in given and "source" not in given:
        return instruction_pairs(row, left_out, system)
    _has_all(row, ("source", "target"))
    return [pair_of(row["source"], row["target"], row.get("action"))]


def transition_of(row: dict[str, Any], left_out: LeftOut) -> list[PairRecord]:
    """Read `{"state", "action", "next_state"}` as source, action and target.

    Raises:
        BadRowError: says what is wrong; the caller knows where.
    """
    keys = ("state", "action", "next_state")
    _has_all(row, keys)
    for key in keys:
        check_text(key, row[key])
    return [PairRecord(row["state"], row["next_state"], row["action"])]


def read_object(line: bytes) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        BadRowError: it is none, or too long.
    """
    if len(line) > LONGEST_ROW:
        raise BadRowError(f"longer than {LONGEST_ROW >> 20} MiB")
    try:
        row = json.loads(line.decode("utf-8").lstrip(MARK))
    except UnicodeDecodeError as error:
        raise BadRowError(f"not UTF-8 at byte {error.start} of the line", way_to_utf8(line)) from None
    except json.JSONDecodeError as error:
        raise BadRowError(
            f"not JSON: {error.msg[0].lower()}{error.msg[1:].removesuffix(' at')} at column {error.colno}"
        ) from None
    except (RecursionError, ValueError):
        raise BadRowError("not JSON that can be read") from None
    return _checked_object(row)


def _value(row: RawRow) -> dict[str, Any]:
    return read_object(row.raw) if row.value is None else _checked_object(row.value)


def _checked_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRowError("not a JSON object")
    return value


def check_actions(pairs: list[PairRecord], has_action: bool | None) -> bool | None:
    """Whether all rows so far have an action; all or none do.

    Raises:
        BadRowError: these do and those before do not, or the other way round.
    """
    if not pairs:
        return has_action
    if has_action is None:
        has_action = pairs[0].action is not None
    elif any((pair.action is not None) != has_action for pair in pairs):
        raise BadRowError(
            "has no action, but earlier rows do"
            if has_action
            else "has an action, but earlier rows have none"
        )
    return has_action


def _has_all(row: dict[str, Any], keys: tuple[str, ...]) -> None:
    for key in keys:
        if row.get(key) is None:
            other = ", ".join(list(row)[:_KEYS_SHOWN]) or "none"
            is_null = key in row
            why = f"{key} is null" if is_null else f"has no {key}; its keys: {other}"
            raise BadRowError(why, _way_out(row) or ("" if is_null else _renaming(row, keys)))


def _renaming(row: dict[str, Any], keys: tuple[str, ...]) -> str:
    """How to name the texts of a row as they should be; empty where they are not as many."""
    texts = [key for key, value in row.items() if isinstance(value, str)]
    if texts == ["text"]:
        return "rows of text alone are documents: jepalm prepare dataset FOLDER reads a folder of them"
    if len(texts) != len(keys) or not all(key.isidentifier() for key in texts):
        return ""
    pairs = ", ".join(f"{key}: .{text}" for key, text in zip(keys, texts, strict=True))
    return f"jq -c '{{{pairs}}}' FILE > FILE.jsonl names them so"


def _way_out(value: Any) -> str:
    """How to get at rows that stand inside of an object, or whose columns do; empty where none do."""
    if not isinstance(value, dict):
        return ""
    for key, rows in value.items():
        if isinstance(rows, list) and _are_rows(rows):
            inside = shlex.quote(f".[{json.dumps(key)}][]")
            return f"its rows stand in {key}: jq -c {inside} FILE > FILE.jsonl takes them out"
    if len(value) > 1 and _are_rows(list(value.values())):
        return "its rows stand under keys of their own: jq -c '.[]' FILE > FILE.jsonl takes them out"
    for key in CHAT_KEYS:
        if isinstance(value.get(key), dict):
            return f"it holds a column: jq -c '.{key}[] | {{{key}: .}}' FILE > FILE.jsonl makes rows"
    columns = (value.get("source"), value.get("target"))
    if all(isinstance(column, list | dict) for column in columns):
        rows = "[[.source[]], [.target[]]] | transpose[] | {source: .[0], target: .[1]}"
        return f"it holds columns: jq -c '{rows}' FILE > FILE.jsonl makes rows"
    return ""


def _are_rows(values: list[Any]) -> bool:
    """Whether these are rows, and no turns of a chat."""
    return bool(values) and all(
        isinstance(value, dict) and not value.keys() & {*ROLE_KEYS} and not _is_column(value)
        for value in values
    )


def _is_column(value: dict[str, Any]) -> bool:
    """Whether these are the cells of a column by the numbers of their rows."""
    return bool(value) and all(key.isdecimal() for key in value)


def _rows(path: Path) -> Iterator[RawRow]:
    """Yield the rows of a file of lines, or of a file that is one JSON array.

    Raises:
        UsageError: it cannot be read, is empty, no UTF-8, or an array that is too long.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise unreadable(path, error) from None
    if not head:
        raise UsageError(f"{path} is empty", "give a file with one JSON row a line")
    check_encoding(head, str(path))
    elements = _array(path) if _unmarked(head).startswith(b"[") else None
    if elements is None:
        return _lines(path, "\r" if b"\r" in head and b"\n" not in head else "\n")
    return (
        RawRow(f"row {number}", json.dumps(element).encode() + b"\n", element)
        for number, element in enumerate(elements, 1)
    )


def _array(path: Path) -> list[Any] | None:
    """The elements of a file that is one JSON array; None where it is something else."""
    if size_of(path) > LONGEST_ARRAY:
        hint = "jq -c '.[]' FILE > FILE.jsonl makes one row a line"
        raise UsageError(f"{path} is a JSON array longer than {LONGEST_ARRAY >> 20} MiB", hint)
    try:
        found: list[Any] = json.loads(path.read_bytes().decode("utf-8").lstrip(MARK))
    except OSError as error:
        raise unreadable(path, error) from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return None
        message = f"{error.msg[0].lower()}{error.msg[1:]} at line {error.lineno}, column {error.colno}"
        raise UsageError(
            f"{path} is a JSON array that ends or breaks early: {message}", "mend it there"
        ) from None
    except (RecursionError, ValueError):
        return None
    return found


def _conversion(path: Path) -> str:
    """How to make one row a line of a file whose first JSON value is none; empty where it is one."""
    if path.suffix.lower() in (".csv", ".tsv"):
        return "jepalm prepare pairs --from FOLDER reads a folder of such files"
    try:
        with open(path, "rb") as file:
            text = file.read(LONGEST_ROW).decode("utf-8", "ignore").lstrip(MARK).lstrip()
        value, end = json.JSONDecoder().raw_decode(text)
    except (OSError, RecursionError, ValueError):
        return ""
    if way := _way_out(value):
        return way
    if "\n" in text[:end]:
        return "its rows stand over several lines: jq -c . FILE > FILE.jsonl makes one a line"
    return (
        "its rows stand on one line: jq -c . FILE > FILE.jsonl makes one a line"
        if text[end:].lstrip(" ,")[:1] == "{"
        else ""
    )


def _unmarked(raw: bytes) -> bytes:
    """Bytes without the byte-order marks and blanks that they begin with."""
    mark = MARK.encode()
    while raw.startswith(mark):
        raw = raw.removeprefix(mark)
    return raw.lstrip()


def _lines(path: Path, end: str) -> Iterator[RawRow]:
    """Yield each line; what follows the first 16 MiB of a line comes apart, as no row of its own.

    Args:
        path: the file.
        end: of a line, a newline or a carriage return.
    """
    number = 0
    try:
        with open(path, encoding="latin-1", newline=end) as file:  # a character a byte
            while line := file.readline(LONGEST_ROW + 1):
                number += 1
                raw = line.encode("latin-1")
                yield RawRow(f"line {number}" if _unmarked(raw) else "", raw)
                while not line.endswith(end) and (line := file.readline(LONGEST_ROW + 1)):
                    yield RawRow("", line.encode("latin-1"))
    except OSError as error:
        raise unreadable(path, error) from None
