import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from jepalm.data import writing
from jepalm.data.job import Outcome
from jepalm.data.prepared import SPLITS, PreparedData, Request, Split, open_prepared
from jepalm.data.text.reading import TextCounts
from jepalm.data.text.splitting import line_blocks, segments
from jepalm.errors import UsageError

Make = Callable[..., Outcome]
MakeRows = Callable[..., PreparedData]


def texts(data: PreparedData, split: Split) -> list[tuple[str, str]]:
    decode = data.tokenizer.decode
    return [(decode(source), decode(target)) for source, target in map(split.pair, range(split.n_pairs))]


def test_forty_thousand_lines_split_into_blocks_with_a_line_left_out():
    request = Request(pairing="lines", tokenizer="char")
    assert line_blocks(TextCounts(lines=40_000), request) == [
        ("train", 36_000), (None, 36_001), ("validation", 38_000), (None, 38_001), ("test", 40_000),
    ]  # fmt: skip


def test_each_line_predicts_the_next_within_its_block(make: Make, numbered: str):
    data = make(numbered).data
    lines = numbered.splitlines(keepends=True)
    assert texts(data, data.split("train")) == list(pairwise(lines[:180]))
    assert texts(data, data.split("validation")) == list(pairwise(lines[181:190]))
    assert texts(data, data.split("test")) == list(pairwise(lines[191:]))


def test_counts_are_those_of_the_text(make: Make):
    meta = make("ab\n\ncde\n" * 10 + "é\n").data.meta
    assert (meta.characters, meta.lines, meta.distinct_characters) == (82, 31, 7)
    assert (meta.longest_source, meta.longest_target) == (4, 4)
    assert [meta.splits[name].pairs for name in SPLITS] == [24, 1, 1]  # blocks of 25, 1 + 2, 1 + 2 lines
    assert meta.mean_target == pytest.approx(8 * 8 / 24)  # targets: "", cde, ab ... of 1, 4, 3 tokens
    assert meta.std_target == pytest.approx((8 * 26 / 24 - (64 / 24) ** 2) ** 0.5)
    assert (meta.unknown_tokens, meta.unknown_characters) == (1, ["é"])
    assert (meta.raw_bytes, meta.tokenizer, meta.vocab_size) == (83, "char", 100)


@pytest.mark.parametrize("limit", [1, 20, 57, 10_000])
def test_shards_of_any_size_hold_the_same_pairs(
    make: Make, numbered: str, limit: int, monkeypatch: pytest.MonkeyPatch
):
    whole = make(numbered, "whole").data
    monkeypatch.setattr(writing, "SHARD_TOKENS", limit)
    cut = make(numbered, "cut").data
    for name in SPLITS:
        assert texts(cut, cut.split(name)) == texts(whole, whole.split(name))
        assert cut.meta.splits[name].tokens == whole.meta.splits[name].tokens
    assert limit == 10_000 or cut.meta.splits["train"].shards > 1


def test_shards_are_bounded_in_pairs_too(make: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writing, "SHARD_PAIRS", 10)
    data = make("\n" * 100).data
    assert data.meta.splits["train"].shards == 9  # 90 lines, 89 pairs
    assert texts(data, data.split("train")) == [("\n", "\n")] * 89


def test_windows_hold_one_stream_with_a_gap_between_splits(
    make: Make, numbered: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writing, "SHARD_TOKENS", 100)
    data = make(numbered, pairing="windows").data
    streams = {}
    for name in SPLITS:
        split = data.split(name)
        streams[name] = data.tokenizer.decode(split.tokens(0, split.n_tokens).tolist())
    assert numbered.startswith(streams["train"])
    assert numbered.endswith(streams["test"])
    assert streams["validation"] in numbered
    gap = len(numbered) // 200
    assert len(numbered) - sum(map(len, streams.values())) == 2 * gap


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(1, 9))
@settings(max_examples=60)
def test_segments_cut_at_the_blocks_ends(lengths: list[int], size: int):
    text = "".join("x" * length + "\n" for length in lengths)
    first = len(lengths) // 2
    blocks = [("train", first), ("test", len(lengths))]
    chunks = ["".join(f"{'x' * n}\n" for n in lengths[at : at + size]) for at in range(0, len(lengths), size)]
    found = {"train": "", "test": ""}
    for name, piece in segments(chunks, blocks, "lines"):
        found[name] += piece
    assert found["train"] + found["test"] == text
    assert found["train"].count("\n") == first


def test_no_held_out_line_stands_next_to_a_training_line(make: Make, numbered: str):
    data = make(numbered).data
    seen = {
        name: {int(line.split()[0]) for pair in texts(data, data.split(name)) for line in pair}
        for name in SPLITS
    }
    assert min(seen["validation"]) - max(seen["train"]) == 2
    assert min(seen["test"]) - max(seen["validation"]) == 2


@pytest.mark.parametrize("n", [8, 20, 57])
def test_few_lines_still_give_a_pair_in_each_split(make: Make, n: int):
    meta = make("line\n" * n).data.meta
    assert all(meta.splits[name].pairs >= 1 for name in SPLITS)


@pytest.mark.parametrize("text", ["one line", "1\n2\n3\n4\n5\n6\n7\n"])
def test_too_few_lines_are_refused(make: Make, text: str):
    with pytest.raises(UsageError, match=r"one line|too few"):
        make(text)


def test_rows_keep_their_order_and_actions(make_rows: MakeRows):
    rows = [
        json.dumps({"source": f"s{k}", "target": f"target {k}", "action": "a" * (k + 1)}) for k in range(40)
    ]
    data = make_rows(rows)
    assert [data.meta.splits[name].pairs for name in SPLITS] == [36, 2, 2]
    assert texts(data, data.split("test")) == [("s38", "target 38"), ("s39", "target 39")]
    split = data.split("validation")
    start, end = split.spans("action", np.array([1]))[0]
    assert data.tokenizer.decode(split.tokens(start, end)) == "a" * 38
    assert data.meta.has_action


def test_pairs_of_one_chat_stay_in_one_split(make_rows: MakeRows):
    messages = [{"role": role, "content": role[0]} for role in ("user", "assistant") * 2]
    data = make_rows([json.dumps({"messages": messages})] * 20)
    assert [data.meta.splits[name].pairs for name in SPLITS] == [36, 2, 2]


def test_three_rows_are_enough_and_two_are_not(make_rows: MakeRows):
    row = '{"source": "a", "target": "b"}'
    with pytest.raises(UsageError, match="too few"):
        make_rows([row] * 2)
    assert [make_rows([row] * 3).meta.splits[name].pairs for name in SPLITS] == [1, 1, 1]


def test_skipped_rows_are_counted(make_rows: MakeRows):
    rows = ['{"source": "a", "target": "b"}'] * 3 + ["{oops}"]
    assert make_rows(rows, skip_bad=True).meta.skipped_rows == 1


def test_content_hash_tells_the_data_apart(make: Make, numbered: str):
    one, same = make(numbered, "one").data.meta, make(numbered, "two").data.meta
    other = make(numbered.replace("150", "151"), "three").data.meta
    assert one.content_sha256 == same.content_sha256 != other.content_sha256


def test_large_vocabulary_needs_four_bytes(make: Make):
    symbols = [chr(code) for code in range(0x20, 0x11000) if not 0xD800 <= code < 0xE000]
    text = "".join(f"{symbol}\n" for symbol in symbols)
    data = make(text, alphabet="data").data
    assert data.meta.vocab_size > 65_536
    assert data.split("train").shards[0].tokens.dtype == np.uint32
    assert texts(data, data.split("test"))[-1][1] == f"{symbols[-1]}\n"


def test_bpe_of_a_small_text_says_the_size_it_reached(make: Make, numbered: str):
    data = make(numbered, tokenizer="bpe:5000").data
    assert data.meta.tokenizer == f"bpe:{data.meta.vocab_size}"
    lines = numbered.splitlines(keepends=True)
    assert texts(data, data.split("train")) == list(pairwise(lines[:180]))


def test_files_open_with_their_own_libraries(make: Make, numbered: str):
    path = make(numbered).data.path
    tensors = load_file(path / "train-00000.safetensors")
    assert {name: tensor.dtype.name for name, tensor in tensors.items()} == {
        "tokens": "uint16", "source": "int64", "target": "int64",
    }  # fmt: skip
    assert Tokenizer.from_file(str(path / "tokenizer.json")).get_vocab_size() == 100


class TestOpening:
    def test_by_name_and_by_path(self, make: Make, numbered: str):
        path = make(numbered).data.path
        assert open_prepared("mine", path.parent).meta == open_prepared(path, Path("elsewhere")).meta

    def test_missing_names_the_nearest(self, make: Make, numbered: str):
        root = make(numbered).data.path.parent
        with pytest.raises(UsageError, match=r"no prepared data mime .*did you mean mine\?"):
            open_prepared("mime", root)
        with pytest.raises(UsageError, match=rf"jepalm prepare shakespeare --data-dir {root} makes it"):
            open_prepared("shakespeare", root)

    def test_empty_and_other_folders(self, tmp_path: Path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(UsageError, match="is empty"):
            open_prepared("empty", tmp_path)
        (tmp_path / "empty" / "x").touch()
        with pytest.raises(UsageError, match=r"has no meta\.json"):
            open_prepared("empty", tmp_path)
        with pytest.raises(UsageError, match="is a file"):
            open_prepared(tmp_path / "empty" / "x", tmp_path)

    def test_changed_and_missing_files(self, make: Make, numbered: str):
        path = make(numbered).data.path
        with open(path / "test-00000.safetensors", "ab") as file:
            file.write(b"x")
        with pytest.raises(UsageError, match=r"was changed since it was prepared.*prepare again"):
            open_prepared("mine", path.parent)
        (path / "test-00000.safetensors").unlink()
        with pytest.raises(UsageError, match="is missing"):
            open_prepared("mine", path.parent)

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            ("{", "cannot be read"),
            ("[]", "not a description"),
            ('{"format": 0}', "has format 0"),
            ('{"format": 1}', "damaged at corpus"),
        ],
    )
    def test_broken_meta(self, make: Make, numbered: str, content: str, why: str):
        path = make(numbered).data.path
        (path / "meta.json").write_text(content)
        with pytest.raises(UsageError, match=why):
            open_prepared("mine", path.parent)

    def test_a_moved_folder_opens(self, make: Make, numbered: str, tmp_path: Path):
        data = make(numbered).data
        shutil.move(data.path, tmp_path / "elsewhere")
        assert open_prepared(tmp_path / "elsewhere", tmp_path).split("train").n_pairs == 179
