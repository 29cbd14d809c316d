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
        (b'{"messages": [{"content": "q"}]}', "a message has no role"),
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


def test_the_mark_is_dropped_and_an_array_is_rows(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf{"source": "a", "target": "b"}\r\n')
    (tmp_path / "rows.json").write_text('[\n{"source": "a",\n "target": "b"}]')
    for name in ("rows.jsonl", "rows.json"):
        assert pairs_of(PairFiles(tmp_path / name)) == [[PairRecord("a", "b")]]


def test_skipping_is_no_hint_where_it_would_skip_everything(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('{"question": "a"}\n{"question": "b"}\n')
    with pytest.raises(BadRowError) as caught:
        pairs_of(PairFiles(tmp_path / "rows.jsonl"))
    assert "--skip-bad" not in str(caught.value)


def told(tmp_path: Path, content: bytes, name: str = "rows.jsonl") -> str:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        pairs_of(PairFiles(tmp_path / name))
    return str(caught.value).removeprefix(f"{tmp_path}/")


ROW = b'{"source": "a", "target": "b"}'


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf\xef\xbb\xbf" + ROW + b"\n\xef\xbb\xbf" + ROW,
        ROW + b"\r" + ROW + b"\r",
        ROW + b"\r\n\r\n" + ROW,
    ],
    ids=["marks", "CR", "CR LF"],
)
def test_marks_and_line_ends_are_no_part_of_a_row(tmp_path: Path, content: bytes):
    (tmp_path / "rows.jsonl").write_bytes(content)
    assert pairs_of(PairFiles(tmp_path / "rows.jsonl")) == [[PairRecord("a", "b")]] * 2


@pytest.mark.parametrize(
    ("content", "way"),
    [
        (b'{"data": [' + ROW + b"]}", "jq -c '.[\"data\"][]'"),
        (b'{"0": ' + ROW + b', "1": ' + ROW + b"}", "jq -c '.[]'"),
        (b'{"source": {"0": "a"}, "target": {"0": "b"}}', "transpose"),
        (
            b'{"conversation": {"0": [], "1": []}, "id": {"0": "a"}}',
            "jq -c '.conversation[] | {conversation: .}'",
        ),
        (b'{"prompt": "a", "completion": "b"}\n', "jq -c '{source: .prompt, target: .completion}'"),
        (b'{"chosen": [{"role": "user"}], "rejected": []}\n', "its keys: chosen, rejected (rows are"),
        (ROW + ROW, "stand on one line: jq -c ."),
        (b'{"text": "a"}\n', "jepalm prepare dataset FOLDER"),
        (b"source,target\na,b\n", "rows are"),
        (b'{"source": "caf\xe9", "target": "b"}\n' + ROW, "iconv -f CP1252"),
        (b"\n  \n", "holds no pair (give one JSON row a line)"),
        (b'{"messages": [{"role": "user", "content": null}]}', "left out: 1 turn without text"),
        (b"null\n" + ROW, "not a JSON object (--skip-bad"),
    ],
)
def test_whoever_has_no_good_row_is_told_how_to_make_one(tmp_path: Path, content: bytes, way: str):
    assert way in told(tmp_path, content)


def test_a_table_is_told_to_go_another_way(tmp_path: Path):
    assert "prepare pairs --from FOLDER" in told(tmp_path, b"source,target\na,b\n", "rows.csv")
