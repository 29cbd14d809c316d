"""Bytes that people call text: one rule for byte-order marks, line ends, and what is no UTF-8.

Every reader of a file, of standard input or of a prompt takes it from here.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from pathlib import Path

from jepalm.errors import UsageError

MARK = "\ufeff"
"""A byte-order mark as a character."""
HEAD_BYTES = 1 << 16
"""Bytes from the start of a file that say how it is encoded."""
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32LE"),  # before UTF-16LE, whose mark it begins with
    (codecs.BOM_UTF32_BE, "UTF-32BE"),
    (codecs.BOM_UTF16_LE, "UTF-16LE"),
    (codecs.BOM_UTF16_BE, "UTF-16BE"),
)
_FOLDERS = "jepalm prepare dataset FOLDER, or prepare pairs --from FOLDER, reads a folder of them"
_NO_TEXT = (
    (b"\x1f\x8b", "compressed with gzip", "unpack it: gzip -dc FILE.gz > FILE"),
    *(
        (b"BZh%d1AY&SY" % n, "compressed with bzip2", "unpack it: bzip2 -dc FILE.bz2 > FILE")
        for n in range(1, 10)
    ),
    (b"\xfd7zXZ\0", "compressed with xz", "unpack it: xz -dc FILE.xz > FILE"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "unpack it: zstd -dc FILE.zst > FILE"),
    (b"\x04\x22\x4d\x18", "compressed with LZ4", "unpack it: lz4 -dc FILE.lz4 > FILE"),
    (b"PK\x03\x04", "a zip archive", "unpack it: unzip FILE"),
    (b"PK\x05\x06", "an empty zip archive", "give a file with some text"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it: 7z x FILE"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it: unrar x FILE"),
    (b"PAR1\x15", "a Parquet file", _FOLDERS),
    (b"ARROW1\0", "an Arrow file", _FOLDERS),
    (b"%PDF-", "a PDF file", "pdftotext FILE takes its text out"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "git lfs pull fetches it"),
)
"""First bytes, what they show, what to do."""
_TAR = 257, b"ustar"
"""Where an archive of tar says so."""
_ZEROS_OF_UTF16 = 0.05
"""Part of the bytes that is zero at least: blanks and line ends alone, in a text of no Latin letter."""
_SHORT = 16
"""Bytes below which that part says nothing, and must be large."""
_WIDE_OF_WESTERN = 0.3
"""Part of the bytes that is above ASCII at most where Latin letters have accents."""
_MARK_OF_LINE = re.compile(f"^{MARK}+", re.MULTILINE)


def check_encoding(head: bytes, where: str) -> None:
    """Refuse what its first bytes show to be no UTF-8 text.

    Args:
        head: the first `HEAD_BYTES`, or all.
        where: the file, or what it is.

    Raises:
        UsageError: compressed, another format, or UTF-16 or UTF-32, with a mark or without.
    """
    for magic, what, hint in _NO_TEXT:
        if head.startswith(magic):
            raise UsageError(f"{where} is {what}", hint)
    if head[_TAR[0] :].startswith(_TAR[1]):
        raise UsageError(f"{where} is a tar archive", "unpack it: tar -xf FILE")
    found = _encoding(head)
    if found:
        raise UsageError(
            f"{where} is {found}, not UTF-8", f"convert it: iconv -f {found} -t UTF-8 FILE > NEW"
        )
    n_zeros = head.count(0)
    if n_zeros > _ZEROS_OF_UTF16 * len(head) or (n_zeros and not _decodes(head, "utf-8")):
        raise UsageError(f"{where} is binary, not text", "give a file of UTF-8 text")


def decode(raw: bytes, where: str) -> str:
    r"""A whole text without its byte-order mark, every line end a newline.

    Args:
        raw: UTF-8.
        where: the file, or what it is, such as `standard input`.

    Raises:
        UsageError: no UTF-8; names the encoding where it shows.
    """
    check_encoding(raw[:HEAD_BYTES], where)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(where, error.start, error) from None
    return plain(text)


def plain(text: str) -> str:
    """A given text without byte-order marks, every line end a newline.

    A carriage return alone ends a line where no newline does.
    """
    text = without_marks(text).replace("\r\n", "\n")
    return text if "\n" in text else text.replace("\r", "\n")


def without_marks(text: str) -> str:
    """A text without the marks that its lines begin with: its own, and those of files joined to it."""
    return _MARK_OF_LINE.sub("", text) if MARK in text else text


def not_utf8(where: str, at: int, error: UnicodeDecodeError) -> UsageError:
    """The error of a byte that is no UTF-8, at a place of the whole."""
    message = f"{where} is not UTF-8: byte {at} is 0x{error.object[error.start]:02x}"
    return UsageError(message, way_to_utf8(error.object))


def way_to_utf8(piece: bytes) -> str:
    """How to convert a text of which a piece is no UTF-8: by the encoding that it seems to have."""
    wide = [character for character in piece.decode("utf-8", "replace") if not character.isascii()]
    if 2 * wide.count("\ufffd") < len(wide):
        return "iconv -c -f UTF-8 -t UTF-8 FILE > NEW leaves such bytes out"
    n_wide = sum(byte >= 0x80 for byte in piece)
    if n_wide < _WIDE_OF_WESTERN * len(piece) and _decodes(piece, "cp1252"):
        return "if it is Western European, convert it: iconv -f CP1252 -t UTF-8 FILE > NEW"
    return "convert it: iconv -f ENCODING -t UTF-8 FILE > NEW"


def read_text(path: Path, hint: str = "check the path") -> str:
    """Read a text file as `decode` does.

    Args:
        path: the file.
        hint: what to say where it cannot be read.

    Raises:
        UsageError: missing, unreadable, or no UTF-8.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"no such file: {path}", hint) from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint) from None
    return decode(raw, str(path))


def lines_of(text: str) -> list[str]:
    """The lines of a plain text without their ends; one without text has none."""
    return text.removesuffix("\n").split("\n") if text else []


def _encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 by its mark, or by where its zero bytes stand; None for all else.

    A letter of the Latin alphabet has one zero byte of two in UTF-16, so has a blank of every script.
    """
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if len(head) < 4:
        return None
    zeros = [head[at::4].count(0) for at in range(4)]
    n_zeros, places = sum(zeros), len(head)
    least = _ZEROS_OF_UTF16 if places >= _SHORT else 0.4
    if not n_zeros or (n_zeros < least * places and _decodes(head, "utf-8")):
        return None
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    if min(zeros[2], zeros[3]) > 0.22 * places:
        name = "UTF-32LE"
    elif min(zeros[0], zeros[1]) > 0.22 * places:
        name = "UTF-32BE"
    elif max(even, odd) < 0.95 * n_zeros:
        return None
    else:
        name = "UTF-16LE" if odd > even else "UTF-16BE"
    return name if _decodes(head, name, as_text=True) else None


def _decodes(head: bytes, encoding: str, as_text: bool = False) -> bool:
    """Whether bytes, maybe cut within a character, are of an encoding; as text, only such as texts have."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    return not as_text or all(
        character.isspace() or unicodedata.category(character) not in ("Cc", "Cn", "Co", "Cs")
        for character in text
    )
