"""Bytes that people call text: one rule for byte-order marks, line ends, and what is no UTF-8.

Every reader of a file, of standard input or of a prompt takes it from here.
"""

from __future__ import annotations

import codecs
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
_PACKED = (
    (b"\x1f\x8b", "compressed with gzip", "unpack it: gzip -dc FILE.gz > FILE"),
    (b"BZh9", "compressed with bzip2", "unpack it: bzip2 -dc FILE.bz2 > FILE"),
    (b"\xfd7zXZ\0", "compressed with xz", "unpack it: xz -dc FILE.xz > FILE"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "unpack it: zstd -dc FILE.zst > FILE"),
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (
        b"PAR1\x15",
        "a Parquet file",
        "jepalm prepare dataset FOLDER reads a folder of them",
    ),
)
"""First bytes, what they show, what to do."""
_FEWEST_BYTES = 16
"""Bytes below which zeros say nothing."""
_ZEROS_OF_UTF16 = 0.05
"""Part of the bytes that is zero at least: blanks and line ends alone, in a text of no Latin letter."""


def check_encoding(head: bytes, where: str) -> None:
    """Refuse what its first bytes show to be no UTF-8 text.

    Args:
        head: the first `HEAD_BYTES`, or all.
        where: the file, or what it is.

    Raises:
        UsageError: compressed, or UTF-16 or UTF-32, with a mark or without.
    """
    for magic, what, hint in _PACKED:
        if head.startswith(magic):
            raise UsageError(f"{where} is {what}", hint)
    found = _encoding(head)
    if found:
        raise UsageError(f"{where} is {found}, not UTF-8", f"convert it: iconv -f {found} -t UTF-8")


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
        raise not_utf8(where, error.start, raw[error.start]) from None
    return plain(text)


def plain(text: str) -> str:
    """A given text without its byte-order mark, every line end a newline."""
    return text.removeprefix(MARK).replace("\r\n", "\n")


def not_utf8(where: str, at: int, byte: int) -> UsageError:
    """The error of a byte that is no UTF-8."""
    return UsageError(
        f"{where} is not UTF-8: byte {at} is 0x{byte:02x}", "convert it, for instance with iconv -t UTF-8"
    )


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
    zeros = [head[at::4].count(0) for at in range(4)]
    n_zeros, places = sum(zeros), len(head)
    if places < _FEWEST_BYTES or n_zeros < _ZEROS_OF_UTF16 * places:
        return None
    if min(zeros[2], zeros[3]) > 0.22 * places:
        return "UTF-32LE"
    if min(zeros[0], zeros[1]) > 0.22 * places:
        return "UTF-32BE"
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    if max(even, odd) < 0.95 * n_zeros:
        return None
    return "UTF-16LE" if odd > even else "UTF-16BE"
