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
