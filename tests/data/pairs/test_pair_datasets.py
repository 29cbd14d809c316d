"""Pairs from a folder of the `datasets` library, as a published task has them."""

import json

import pytest

from jepalm.data.hub import Corpus, open_hub
from jepalm.data.pairs.datasets import DatasetPairs
from jepalm.data.pairs.reading import PairFiles
from jepalm.data.pairs.records import BadRowError
from jepalm.data.pairs.tasks import format_of
from jepalm.errors import UsageError

pytestmark = pytest.mark.usefixtures("no_hub")


@pytest.fixture
def copy(tmp_path):
    """NQ-Open as published, but for a test split without answers."""
    for name, n in (("train", 6), ("validation", 2), ("test", 3)):
        rows = [
            {"question": f"who is {k}", "answer": [] if name == "test" else ["Ann", f"A. {k}"]}
            for k in range(n)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def opened(folder, task="nq-open", **options):
    task_format = format_of(task)
    dataset = open_hub(Corpus(str(folder)), pairs=task_format.columns)
    return DatasetPairs(dataset, task_format, **options)


def test_a_split_without_answers_is_left_out(copy):
    raw = opened(copy, skip_bad=True)
    first, again = ([pairs[0] for _, pairs in raw.read() if pairs] for _ in range(2))
    assert first == again
    assert [row.target for row in first] == [f"Ann; A. {k}" for k in (*range(6), *range(2))]
    assert first[6].source == "who is 0"
    assert (raw.given, raw.skipped) == ({"validation": 2}, 3)
    assert raw.n_bytes == sum(len(json.dumps([[row.source, row.target]])) for row in first)


def test_a_bad_row_is_named_by_its_split(copy):
    with pytest.raises(BadRowError, match=r", test, row 1: answer is not a list of texts"):
        list(opened(copy).read())


def test_a_dataset_without_the_column_or_without_pairs_is_told(copy):
    with pytest.raises(UsageError, match="has none of the columns source, messages"):
        opened(copy, "text")
    (copy / "train.jsonl").write_text(json.dumps({"question": "who", "answer": []}))
    with pytest.raises(UsageError, match="has no pair in train"):
        list(opened(copy, skip_bad=True).read())


CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "how far?"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "0"},
        {"role": "assistant", "content": [{"type": "text", "text": "0 km"}]},
    ]
}
SHAREGPT = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
ALPACA = {"instruction": "Add one.", "input": "1", "output": "2"}


@pytest.mark.parametrize("row", [CHAT, SHAREGPT, ALPACA], ids=["chat", "ShareGPT", "Alpaca"])
def test_a_dataset_is_read_as_a_file_of_the_same_rows(tmp_path, row):
    (tmp_path / "train.jsonl").write_text(2 * (json.dumps(row) + "\n"))
    from_file, from_dataset = PairFiles(tmp_path / "train.jsonl"), opened(tmp_path, "text")
    pairs = [pairs for _, pairs in from_file.read()]
    assert pairs == [pairs for _, pairs in from_dataset.read() if pairs]
    assert from_file.left_out == from_dataset.left_out


def test_an_action_is_in_all_rows_of_a_dataset_or_in_none(tmp_path):
    rows = [{"source": "a", "target": "b", "action": "go"}, {"source": "a", "target": "b", "action": None}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(BadRowError, match=r"row 2: has no action, but earlier rows do"):
        list(opened(tmp_path, "text").read())


def test_documents_are_not_sought_in_chats(tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps(CHAT))
    with pytest.raises(UsageError, match="messages holds pairs: jepalm prepare pairs --from"):
        open_hub(Corpus(str(tmp_path)))
