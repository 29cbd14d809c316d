"""One rule for marks, line ends, and what is no UTF-8."""

import gzip

import pytest

from jepalm.encodings import decode
from jepalm.errors import UsageError


def test_the_mark_and_carriage_returns_are_no_part_of_a_text():
    assert decode(b"\xef\xbb\xbfone\r\ntwo\r\n", "a.txt") == "one\ntwo\n"


@pytest.mark.parametrize("text", ["The mill stands.\n", "Мельница стоит у реки.\n"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_encodings_are_named_without_a_mark(text: str, encoding: str):
    name = encoding.upper().replace("-LE", "LE").replace("-BE", "BE")
    with pytest.raises(UsageError, match=f"a.txt is {name}, not UTF-8"):
        decode((text * 20).encode(encoding), "a.txt")


def test_a_compressed_file_is_named():
    with pytest.raises(UsageError, match="compressed with gzip"):
        decode(gzip.compress(b"text"), "a.gz")


def test_files_joined_to_one_leave_no_marks_and_a_carriage_return_alone_ends_a_line():
    assert decode("\ufeff\ufeffone\n\ufefftwo\n".encode(), "a.txt") == "one\ntwo\n"
    assert decode(b"one\rtwo\r", "a.txt") == "one\ntwo\n"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_few_letters_and_a_script_without_blanks_are_enough_to_name_utf16(encoding: str):
    for text in ("hi", "天地玄黃宇宙洪荒日月盈昃\n" * 9):
        with pytest.raises(UsageError, match=r"is UTF-16.E, not UTF-8"):
            decode(text.encode(encoding), "standard input")


def test_words_like_the_first_bytes_of_other_files_are_text():
    for text in ("BZh9 is no archive\n", "PAR1: the first\n", "ARROW1 and PK\n"):
        assert decode(text.encode(), "a.txt") == text


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "a 7z archive"),
        (b"a.txt" + bytes(252) + b"ustar\x0000" + bytes(99), "a tar archive"),
        (b"PK\x05\x06" + bytes(18), "an empty zip archive"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(50), "binary, not text"),
        (b"SQLite format 3\0" + bytes(99), "binary, not text"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    ],
)
def test_what_is_no_text_is_not_called_utf32(raw: bytes, what: str):
    with pytest.raises(UsageError, match=f"a.txt is {what}"):
        decode(raw, "a.txt")


@pytest.mark.parametrize(
    ("raw", "hint"),
    [
        ("café crème".encode("latin-1"), "iconv -f CP1252 -t UTF-8"),
        ("日本語のテキスト".encode("shift-jis"), "iconv -f ENCODING -t UTF-8"),
        ("café crème".encode() + b"\xff", "iconv -c -f UTF-8 -t UTF-8"),
    ],
)
def test_the_way_to_utf8_is_that_of_the_encoding(raw: bytes, hint: str):
    with pytest.raises(UsageError, match=hint):
        decode(raw, "a.txt")
