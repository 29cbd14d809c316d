"""Reading raw text in bounded pieces, and counting what is in it."""

from __future__ import annotations

import codecs
import hashlib
import io
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jepalm.encodings import HEAD_BYTES, check_encoding, not_utf8, without_marks
from jepalm.errors import UsageError

CHUNK_BYTES = 1 << 20
LONGEST_LINE = 1 << 20
"""Characters; a longer line is no unit to predict, and would not be read in bounded memory."""

Advance = Callable[[int], None]
"""Called with the number of raw bytes just read."""


@dataclass(frozen=True)
class RawText:
    """Files read one after the other as one text, or a text already in memory."""

    files: tuple[Path, ...] = ()
    content: bytes = b""
    normalize_newlines: bool = False
    """Read CR LF, and CR alone, as a newline."""

    @property
    def n_bytes(self) -> int:
        """Size of all files."""
        return len(self.content) + sum(size_of(path) for path in self.files)

    def chunks(self, digest: Any = None, advance: Advance | None = None) -> Iterator[str]:
        """Decode piece by piece; every file's last line ends in a newline, also where it lacks one.

        A byte-order mark at the start of a file or of a line is left out. Newlines stay as they are,
        unless `normalize_newlines` is set.

        Raises:
            UsageError: unreadable, empty, or not UTF-8 (names the encoding, or file and byte offset).
        """
        for path in self.files:
            yield from self._text(path, _file_pieces(path), digest, advance)
        if self.content:
            pieces = (self.content[at : at + CHUNK_BYTES] for at in range(0, len(self.content), CHUNK_BYTES))
            yield from self._text(Path("text"), pieces, digest, advance)

    def _text(
        self, path: Path, pieces: Iterable[bytes], digest: Any, advance: Advance | None
    ) -> Iterator[str]:
        decoded = _decoded(path, pieces, digest, advance)
        return _normalized(decoded) if self.normalize_newlines else decoded


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
    """Counts characters of texts, fast, on top of those already counted."""

    def __init__(self, frequency: Mapping[str, int] | None = None) -> None:
        self._ascii = np.zeros(128, dtype=np.int64)
        self._other: dict[int, int] = {}
        for symbol, count in (frequency or {}).items():
            if ord(symbol) < 128:
                self._ascii[ord(symbol)] = count
            else:
                self._other[ord(symbol)] = count

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


def _file_pieces(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece
    except OSError as error:
        raise unreadable(path, error) from None


def size_of(path: Path) -> int:
    """Bytes of a file.

    Raises:
        UsageError: it cannot be read, or only once, as a pipe.
    """
    try:
        facts = path.stat()
    except OSError as error:
        raise unreadable(path, error) from None
    if not stat.S_ISREG(facts.st_mode) and not stat.S_ISDIR(facts.st_mode):
        raise UsageError(f"{path} is no regular file, and is read more than once", "save it to a file first")
    return facts.st_size


def unreadable(path: Path, error: OSError) -> UsageError:
    """Why a given file cannot be read, in one line."""
    if isinstance(error, FileNotFoundError) and str(path) == "-":
        return UsageError(
            "standard input is read once, and what is prepared twice", "save it to a file first"
        )
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
        if not position:
            check_encoding(piece[:HEAD_BYTES], str(path))
        pending = len(decoder.getstate()[0])
        text = _decode(decoder, piece, position - pending, path)
        position += len(piece)
        if digest is not None:
            digest.update(piece)
        if advance is not None:
            advance(len(piece))
        text = without_marks(text) if last in ("", "\n") else without_marks("." + text)[1:]
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
        raise not_utf8(str(path), start + error.start, error) from None


def _normalized(chunks: Iterable[str]) -> Iterator[str]:
    """The same text with newlines for CR LF and CR, also where a chunk ends between the two."""
    decoder = io.IncrementalNewlineDecoder(None, translate=True)
    for chunk in chunks:
        if text := decoder.decode(chunk):
            yield text
    if text := decoder.decode("", final=True):
        yield text
