"""Reading raw text and rows in bounded pieces, and counting what is in them."""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jepalm.data.prepared import SplitName
from jepalm.errors import UsageError

CHUNK_BYTES = 1 << 20
LONGEST_LINE = 1 << 20
"""Characters; a longer line is no unit to predict, and would not be read in bounded memory."""
LONGEST_ROW = 1 << 24
"""Bytes of one JSON row."""

Advance = Callable[[int], None]
"""Told the number of raw bytes just read."""


@dataclass(frozen=True)
class RawText:
    """Files read one after the other as one text, or a text already in memory."""

    files: tuple[Path, ...] = ()
    content: bytes = b""

    @property
    def n_bytes(self) -> int:
        """Size of all files."""
        return len(self.content) + sum(_size(path) for path in self.files)

    def chunks(self, digest: Any = None, advance: Advance | None = None) -> Iterator[str]:
        """Decode piece by piece; every file's last line ends in a newline, also where it lacks one.

        A byte order mark at the start of a file is left out. Newlines stay as they are.

        Raises:
            UsageError: unreadable, empty, or not UTF-8 (names file and byte offset).
        """
        for path in self.files:
            yield from _decoded(path, _file_pieces(path), digest, advance)
        if self.content:
            pieces = (self.content[at : at + CHUNK_BYTES] for at in range(0, len(self.content), CHUNK_BYTES))
            yield from _decoded(Path("text"), pieces, digest, advance)


@dataclass
class TextCounts:
    """What a first reading finds."""

    characters: int = 0
    lines: int = 0
    longest_line: int = 0
    """Characters, newline included."""
    raw_bytes: int = 0
    raw_sha256: str = ""
    frequency: dict[str, int] = field(default_factory=dict)
    """How often each character occurs."""

    @property
    def distinct(self) -> list[str]:
        """The characters that occur, sorted."""
        return sorted(self.frequency)


class CharacterCounter:
    """Counts characters of texts, fast."""

    def __init__(self) -> None:
        self._ascii = np.zeros(128, dtype=np.int64)
        self._other: dict[int, int] = {}

    def add(self, codes: NDArray[np.uint32]) -> None:
        """Count code points."""
        plain = codes < 128
        if plain.all():
            self._ascii += np.bincount(codes, minlength=128)
            return
        self._ascii += np.bincount(codes[plain], minlength=128)
        for code, count in zip(
            *(part.tolist() for part in np.unique(codes[~plain], return_counts=True)), strict=True
        ):
            self._other[code] = self._other.get(code, 0) + count

    def frequency(self) -> dict[str, int]:
        """Counts by character, those that occur."""
        plain = {chr(code): int(count) for code, count in enumerate(self._ascii) if count}
        return plain | {chr(code): count for code, count in self._other.items()}


def code_points(text: str) -> NDArray[np.uint32]:
    """The text's characters as numbers, (T,)."""
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def count_text(raw: RawText, advance: Advance | None = None) -> TextCounts:
    """Read everything once: counts, characters, hash.

    Raises:
        UsageError: as `RawText.chunks`.
    """
    counts = TextCounts(raw_bytes=raw.n_bytes)
    digest = hashlib.sha256()
    characters = CharacterCounter()
    open_line = 0
    for chunk in raw.chunks(digest, advance):
        codes = code_points(chunk)
        characters.add(codes)
        counts.characters += len(codes)
        ends = np.flatnonzero(codes == ord("\n"))
        if len(ends):
            lengths = np.diff(ends, prepend=-1)
            counts.longest_line = max(counts.longest_line, open_line + int(lengths[0]), int(lengths.max()))
            counts.lines += len(ends)
            open_line = len(codes) - 1 - int(ends[-1])
        else:
            open_line += len(codes)
    counts.raw_sha256 = digest.hexdigest()
    counts.frequency = characters.frequency()
    return counts


def whole_lines(chunks: Iterable[str]) -> Iterator[str]:
    """Cut chunks anew so that each ends with a line."""
    kept = ""
    for chunk in chunks:
        cut = chunk.rfind("\n") + 1
        if cut:
            yield kept + chunk[:cut]
            kept = chunk[cut:]
        else:
            kept += chunk
    if kept:
        yield kept


@dataclass(frozen=True)
class Row:
    """One pair of texts as given."""

    source: str
    target: str
    action: str | None = None


class BadRowError(UsageError):
    """A row that is no pair."""


class Rows(Protocol):
    """Pairs that can be read more than once, those of a given split after all others."""

    skipped: int
    """Broken rows left out by the last reading."""

    @property
    def n_bytes(self) -> int:
        """Size of what is read."""

    @property
    def given(self) -> dict[SplitName, int]:
        """Rows of the splits that are given rather than cut, in the order they are read, once all are."""

    def rows(self, digest: Any = None, advance: Advance | None = None) -> Iterator[list[Row]]:
        """Yield the pairs of each row, the same each time."""


@dataclass
class RawRows:
    """Files of JSON rows; counts what it skips when told to go on."""

    path: Path
    skip_bad: bool = False
    held_out: dict[SplitName, Path] = field(default_factory=dict)
    """Files of whole splits, apart from `path`."""
    parse: Callable[[bytes], list[Row]] = field(default_factory=lambda: parse_row)
    """Reads the pairs of one line; raises `BadRowError` where there are none."""
    check: Callable[[Row], None] = lambda pair: None
    """Raises `BadRowError` for a pair of texts that is no pair of the task."""
    skipped: int = 0
    given: dict[SplitName, int] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        """Size of all files."""
        return sum(_size(path) for path in (self.path, *self.held_out.values()))

    def rows(self, digest: Any = None, advance: Advance | None = None) -> Iterator[list[Row]]:
        """Yield the pairs of each good row: one, or one for each answered turn of a chat.

        Raises:
            BadRowError: a row is no pair and `skip_bad` is not set; names file and line number.
            UsageError: the file cannot be read or is empty.
        """
        self.skipped = 0
        self.given = {}
        actions = _Actions()
        yield from self._rows(self.path, actions, digest, advance)
        for name, path in self.held_out.items():
            if digest is not None:
                digest.update(f"\0{name}\0".encode())  # the same rows split otherwise are other data
            self.given[name] = 0
            for pairs in self._rows(path, actions, digest, advance):
                self.given[name] += 1
                yield pairs
            if not self.given[name]:
                raise UsageError(f"{path} holds no pair for {name}", "give a file with one JSON row a line")

    def _rows(
        self, path: Path, actions: _Actions, digest: Any, advance: Advance | None
    ) -> Iterator[list[Row]]:
        for number, line in _raw_lines(path, digest, advance):
            if not line.strip():
                continue
            try:
                pairs = self.parse(line)
                for pair in pairs:
                    self.check(pair)
                actions.check(pairs)
            except BadRowError as error:
                if not self.skip_bad:
                    raise BadRowError(
                        f"{path}, line {number}: {error.message}",
                        error.hint or "--skip-bad leaves such rows out",
                    ) from None
                self.skipped += 1
                continue
            yield pairs


@dataclass
class _Actions:
    """Whether rows have an action: all or none."""

    present: bool | None = None

    def check(self, pairs: list[Row]) -> None:
        if self.present is None:
            self.present = pairs[0].action is not None
        elif any((pair.action is not None) != self.present for pair in pairs):
            raise BadRowError(
                "has no action, but earlier rows do"
                if self.present
                else "has an action, but earlier rows have none"
            )


def parse_row(line: bytes) -> list[Row]:
    """Read `{"source", "target", "action"?}` or a chat row `{"messages": [...]}`.

    Raises:
        BadRowError: says what is wrong; the caller knows where.
    """
    return rows_of(read_object(line))


def rows_of(row: dict[str, Any]) -> list[Row]:
    """Return the pairs of `{"source", "target", "action"?}` or of a chat row.

    Raises:
        BadRowError: says what is wrong.
    """
    if "messages" in row:
        return _chat_pairs(row["messages"], row.get("action"))
    _has_all(row, ("source", "target"), 'rows are {"source": ..., "target": ...} or {"messages": [...]}')
    return [pair_of(row["source"], row["target"], row.get("action"))]


def parse_transition(line: bytes) -> list[Row]:
    """Read `{"state", "action", "next_state"}` as source, action and target.

    Raises:
        BadRowError: says what is wrong; the caller knows where.
    """
    row = read_object(line)
    keys = ("state", "action", "next_state")
    _has_all(row, keys, 'rows are {"state": ..., "action": ..., "next_state": ...}')
    for key in keys:
        _check_text(key, row[key])
    return [Row(row["state"], row["next_state"], row["action"])]


def read_object(line: bytes) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        BadRowError: it is none, or too long.
    """
    if len(line) > LONGEST_ROW:
        raise BadRowError(f"longer than {LONGEST_ROW >> 20} MiB")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRowError(f"not UTF-8 at byte {error.start} of the line") from None
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadRowError(
            f"not JSON: {error.msg[0].lower()}{error.msg[1:]} at column {error.colno}"
        ) from None
    except (RecursionError, ValueError):
        raise BadRowError("not JSON that can be read") from None
    if not isinstance(row, dict):
        raise BadRowError("not a JSON object")
    return row


def _has_all(row: dict[str, Any], keys: tuple[str, ...], hint: str) -> None:
    for key in keys:
        if key not in row:
            raise BadRowError(f"has no {key}", hint)


def _chat_pairs(messages: Any, action: Any) -> list[Row]:
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


def pair_of(source: Any, target: Any, action: Any = None) -> Row:
    """Return a pair of texts.

    Raises:
        BadRowError: one of them is no text, or empty.
    """
    for key, value in (("source", source), ("target", target), ("action", action)):
        if key != "action" or value is not None:
            _check_text(key, value)
    return Row(source, target, action)


def _check_text(key: str, value: Any) -> None:
    if not isinstance(value, str):
        raise BadRowError(f"{key} is not a text")
    if not value:
        raise BadRowError(f"{key} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRowError(f"{key} holds half a surrogate pair") from None


def _raw_lines(path: Path, digest: Any, advance: Advance | None) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        with open(path, "rb") as file:
            while line := file.readline(LONGEST_ROW + 1):
                number += 1
                length = len(line)
                if digest is not None:
                    digest.update(line)
                rest = line
                while not rest.endswith(b"\n") and (rest := file.readline(LONGEST_ROW + 1)):
                    length += len(rest)  # the end of an overlong row, which is reported as one
                    if digest is not None:
                        digest.update(rest)
                if advance is not None:
                    advance(length)
                yield number, line
    except OSError as error:
        raise _unreadable(path, error) from None
    if not number:
        raise UsageError(f"{path} is empty", "give a file with one JSON row a line")


def _file_pieces(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece
    except OSError as error:
        raise _unreadable(path, error) from None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> UsageError:
    if isinstance(error, FileNotFoundError):
        return UsageError(f"no such file: {path}", "check the path")
    if isinstance(error, IsADirectoryError):
        return UsageError(f"{path} is a folder", "give its files")
    return UsageError(f"cannot read {path}: {error.strerror}", "check the path and its permissions")


def _decoded(path: Path, pieces: Iterable[bytes], digest: Any, advance: Advance | None) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    position = 0
    last = ""
    for piece in pieces:
        pending = len(decoder.getstate()[0])
        text = _decode(decoder, piece, position - pending, path)
        position += len(piece)
        if digest is not None:
            digest.update(piece)
        if advance is not None:
            advance(len(piece))
        if position == len(piece):
            text = text.removeprefix("\ufeff")
        if text:
            yield text
            last = text[-1]
    _decode(decoder, b"", position - len(decoder.getstate()[0]), path, final=True)
    if not position:
        raise UsageError(f"{path} is empty", "give a file with some text")
    if last != "\n":
        yield "\n"


def _decode(
    decoder: codecs.IncrementalDecoder, piece: bytes, start: int, path: Path, final: bool = False
) -> str:
    try:
        return decoder.decode(piece, final)
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8: byte {start + error.start} is 0x{error.object[error.start]:02x}",
            "convert it, for instance with iconv -t UTF-8",
        ) from None
