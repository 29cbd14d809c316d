import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jepalm.data.text import reading
from jepalm.data.text.reading import RawText, count_text, whole_lines
from jepalm.errors import UsageError


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), st.integers(1, 7)
)
@example("a\n\ufeff\ufeffb", 1)
@example("\ufeff", 1)
@example("a\ufeff\nb", 2)
@settings(max_examples=60)
def test_text_is_the_same_whatever_the_chunk_size(text: str, size: int):
    content = text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "CHUNK_BYTES", size)
        raw = RawText(content=content)
        expected = re.sub("(?m)^\ufeff+", "", text)
        expected += "" if expected.endswith("\n") else "\n"
        assert "".join(raw.chunks()) == expected
        counts = count_text(raw)
        assert counts.characters == len(expected)
        assert counts.lines == expected.count("\n")
        assert counts.longest_line == max(len(line) + 1 for line in expected.split("\n")[:-1])
        assert counts.distinct == sorted(set(expected))
        assert counts.raw_sha256 == hashlib.sha256(content).hexdigest()


def test_carriage_returns_and_form_feeds_stay(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"a\r\nb\x0cc\n")
    assert "".join(RawText((tmp_path / "a.txt",)).chunks()) == "a\r\nb\x0cc\n"


def test_files_are_one_text_and_each_ends_its_last_line(tmp_path: Path):
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two\n")
    assert "".join(RawText((tmp_path / "a.txt", tmp_path / "b.txt")).chunks()) == "one\ntwo\n"


def test_byte_offset_of_broken_utf8_counts_from_the_file_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reading, "CHUNK_BYTES", 4)
    path = tmp_path / "a.txt"
    path.write_bytes("abcé".encode() + b"ok\xffrest")  # bytes 0-4, 5-6, 7
    with pytest.raises(UsageError, match=r"a\.txt is not UTF-8: byte 7 is 0xff"):
        list(RawText((path,)).chunks())


def test_text_cut_within_a_character_is_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "CHUNK_BYTES", 4)
    (tmp_path / "a.txt").write_bytes(b"abc\xc3")
    with pytest.raises(UsageError, match="byte 3 is 0xc3"):
        list(RawText((tmp_path / "a.txt",)).chunks())


def test_whole_lines_never_cut_a_line():
    assert list(whole_lines(["ab", "c\nd", "e\nf", "g\n"])) == ["abc\n", "de\n", "fg\n"]


def test_newlines_are_normalized_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "CHUNK_BYTES", 2)
    (tmp_path / "a.txt").write_bytes(b"a\r\nb\rc\r\n")
    assert "".join(RawText((tmp_path / "a.txt",), normalize_newlines=True).chunks()) == "a\nb\nc\n"
