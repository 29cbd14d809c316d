import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepalm.data import reading
from jepalm.data.reading import BadRowError, RawRows, RawText, Row, count_text, parse_row, whole_lines
from jepalm.errors import UsageError


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(1, 7))
@settings(max_examples=60)
def test_text_is_the_same_whatever_the_chunk_size(text: str, size: int):
    content = text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "CHUNK_BYTES", size)
        raw = RawText(content=content)
        expected = text.removeprefix("\ufeff")
        expected += "" if expected.endswith("\n") else "\n"
        if len("\ufeff".encode()) <= size or not text.startswith("\ufeff"):
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


def test_plain_row_is_one_pair():
    assert parse_row(b'{"source": "a", "target": "b", "id": 4}') == [Row("a", "b")]
    assert parse_row(b'{"source": "a", "target": "b", "action": "go"}') == [Row("a", "b", "go")]


def test_chat_row_is_a_pair_for_each_answered_turn():
    turns = [
        ("system", "s"),
        ("user", "u1"),
        ("assistant", "a1"),
        ("user", "u2"),
        ("assistant", "a2"),
        ("user", "u3"),
    ]
    row = json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]})
    assert parse_row(row.encode()) == [Row("u1", "a1"), Row("u2", "a2")]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"source": "a"}', "has no target"),
        (b'{"source": 3, "target": "b"}', "source is not a text"),
        (b'{"source": "a", "target": ""}', "target is empty"),
        (b'{"source": "a", "target": "\\ud800"}', "half a surrogate"),
        (b'{"messages": []}', "no user turn"),
        (b'{"messages": [{"role": "user"}]}', "lacks role or content"),
        (b'{"source": "\xff"}', "not UTF-8 at byte 12"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_broken_rows_say_what_is_wrong(row: bytes, why: str):
    with pytest.raises(BadRowError, match=why):
        parse_row(row)


def test_broken_row_is_named_by_file_and_line(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"source": "a", "target": "b"}\n\n{oops}\n')
    with pytest.raises(BadRowError, match=r"rows\.jsonl, line 3: not JSON"):
        list(RawRows(path).rows())


def test_skipping_goes_on_and_counts(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{oops}\n{"source": "a", "target": "b"}\n{"source": "a", "target": "b", "action": "c"}\n')
    rows = RawRows(path, skip_bad=True)
    assert list(rows.rows()) == [[Row("a", "b")]]
    assert rows.skipped == 2


def test_overlong_row_is_a_broken_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "LONGEST_ROW", 64)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"source": "a" * 500, "target": "b"}) + '\n{"source": "a", "target": "b"}\n')
    rows = RawRows(path, skip_bad=True)
    assert list(rows.rows()) == [[Row("a", "b")]]
    assert rows.skipped == 1


def test_held_out_files_follow_and_are_counted(tmp_path: Path):
    for name, count in (("train", 3), ("validation", 1), ("test", 2)):
        rows = [json.dumps({"source": name, "target": str(place)}) for place in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    held_out = {name: tmp_path / f"{name}.jsonl" for name in ("validation", "test")}
    raw = RawRows(tmp_path / "train.jsonl", held_out=held_out)
    assert [row.source for [row] in raw.rows()] == ["train"] * 3 + ["validation"] + ["test"] * 2
    assert raw.given == {"validation": 1, "test": 2}
    assert raw.n_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_the_same_rows_split_otherwise_are_other_data(tmp_path: Path):
    def digest_of(*sizes: int) -> str:
        row = b'{"source": "a", "target": "b"}\n'
        paths = [tmp_path / name for name in ("train", "validation", "test")]
        for path, size in zip(paths, sizes, strict=True):
            path.write_bytes(row * size)
        digest = hashlib.sha256()
        list(RawRows(paths[0], held_out={"validation": paths[1], "test": paths[2]}).rows(digest))
        return digest.hexdigest()

    assert len({digest_of(2, 1, 1), digest_of(1, 2, 1), digest_of(1, 1, 2)}) == 3


def test_an_action_is_in_all_files_or_in_none(tmp_path: Path):
    (tmp_path / "train").write_text('{"source": "a", "target": "b"}\n')
    (tmp_path / "test").write_text('{"source": "a", "target": "b", "action": "c"}\n')
    raw = RawRows(tmp_path / "train", held_out={"test": tmp_path / "test"})
    with pytest.raises(BadRowError, match="test, line 1: has an action, but earlier rows have none"):
        list(raw.rows())


def test_a_held_out_file_without_a_pair_is_refused(tmp_path: Path):
    (tmp_path / "train").write_text('{"source": "a", "target": "b"}\n')
    (tmp_path / "test").write_text("\n")
    with pytest.raises(UsageError, match="holds no pair for test"):
        list(RawRows(tmp_path / "train", held_out={"test": tmp_path / "test"}).rows())
