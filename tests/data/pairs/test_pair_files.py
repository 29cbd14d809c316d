import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from jepalm.data.pairs import reading
from jepalm.data.pairs.reading import PairFiles, read_object
from jepalm.data.pairs.records import BadRowError, PairRecord
from jepalm.errors import UsageError


def parse_row(line: bytes, left_out: Counter[str] | None = None, **options: bool) -> list[PairRecord]:
    return reading.pairs_of(read_object(line), Counter() if left_out is None else left_out, **options)


def pairs_of(source: PairFiles) -> list[list[PairRecord]]:
    return [pairs for _, pairs in source.read() if pairs]


def test_plain_row_is_one_pair():
    assert parse_row(b'{"source": "a", "target": "b", "id": 4}') == [PairRecord("a", "b")]
    assert parse_row(b'{"source": "a", "target": "b", "action": "go"}') == [PairRecord("a", "b", "go")]


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
    assert parse_row(row.encode()) == [PairRecord("u1", "a1"), PairRecord("u2", "a2")]


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
        pairs_of(PairFiles(path))


def test_skipping_goes_on_and_counts(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{oops}\n{"source": "a", "target": "b"}\n{"source": "a", "target": "b", "action": "c"}\n')
    rows = PairFiles(path, skip_bad=True)
    assert pairs_of(rows) == [[PairRecord("a", "b")]]
    assert rows.skipped == 2


def test_overlong_row_is_a_broken_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "LONGEST_ROW", 64)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"source": "a" * 500, "target": "b"}) + '\n{"source": "a", "target": "b"}\n')
    rows = PairFiles(path, skip_bad=True)
    assert pairs_of(rows) == [[PairRecord("a", "b")]]
    assert rows.skipped == 1


def test_held_out_files_follow_and_are_counted(tmp_path: Path):
    for name, count in (("train", 3), ("validation", 1), ("test", 2)):
        rows = [json.dumps({"source": name, "target": str(place)}) for place in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    held_out = {name: tmp_path / f"{name}.jsonl" for name in ("validation", "test")}
    raw = PairFiles(tmp_path / "train.jsonl", held_out=held_out)
    assert [row.source for [row] in pairs_of(raw)] == ["train"] * 3 + ["validation"] + ["test"] * 2
    assert raw.given == {"validation": 1, "test": 2}
    assert raw.n_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_the_same_rows_split_otherwise_are_other_data(tmp_path: Path):
    def digest_of(*sizes: int) -> str:
        row = b'{"source": "a", "target": "b"}\n'
        paths = [tmp_path / name for name in ("train", "validation", "test")]
        for path, size in zip(paths, sizes, strict=True):
            path.write_bytes(row * size)
        digest = hashlib.sha256()
        for raw, _ in PairFiles(paths[0], held_out={"validation": paths[1], "test": paths[2]}).read():
            digest.update(raw)
        return digest.hexdigest()

    assert len({digest_of(2, 1, 1), digest_of(1, 2, 1), digest_of(1, 1, 2)}) == 3


def test_an_action_is_in_all_files_or_in_none(tmp_path: Path):
    (tmp_path / "train").write_text('{"source": "a", "target": "b"}\n')
    (tmp_path / "test").write_text('{"source": "a", "target": "b", "action": "c"}\n')
    raw = PairFiles(tmp_path / "train", held_out={"test": tmp_path / "test"})
    with pytest.raises(BadRowError, match="test, line 1: has an action, but earlier rows have none"):
        pairs_of(raw)


def test_a_held_out_file_without_a_pair_is_refused(tmp_path: Path):
    (tmp_path / "train").write_text('{"source": "a", "target": "b"}\n')
    (tmp_path / "test").write_text("\n")
    with pytest.raises(UsageError, match="holds no pair for test"):
        pairs_of(PairFiles(tmp_path / "train", held_out={"test": tmp_path / "test"}))
