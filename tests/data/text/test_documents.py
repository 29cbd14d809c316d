import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parquet_files import write_parquet

from jepalm.data import hub
from jepalm.data.hub import CORPORA, Corpus, OpenDataset, open_hub
from jepalm.data.job import Job, Outcome
from jepalm.data.prepared import SPLITS, Request, SplitName, open_prepared
from jepalm.data.text import documents
from jepalm.data.text.documents import prepare_documents, split_of
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import Interrupted, JepalmError, UsageError

END = TextTokenizer.END
DOCUMENTS = [f"document {k} says ä{'é' * (k % 5)}\nand ends with {k * k}" for k in range(300)]
Prepare = Callable[..., Outcome]

pytestmark = pytest.mark.usefixtures("no_hub")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of two files without splits."""
    write_parquet(tmp_path / "given", "part-0", DOCUMENTS[:160])
    write_parquet(tmp_path / "given", "part-1", DOCUMENTS[160:])
    return tmp_path / "given"


@pytest.fixture
def prepare(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Prepare the dataset in batches of about four documents."""
    monkeypatch.setattr(documents, "BATCH_CHARACTERS", 150)

    def run(
        name: str = "mine", *, corpus: Corpus | None = None, force: bool = False, piece_bytes: int = 1000,
        watch: Any = lambda *conditioning: None, **request: object,
    ) -> Outcome:  # fmt: skip
        text = open_hub(corpus or Corpus(str(folder)))
        asked = {"pairing": "windows", "tokenizer": "byte", "split": (80, 10, 10), **request}
        job = Job(
            tmp_path / "data",
            name,
            "dataset",
            text.origin,
            "none",
            Request.model_validate(asked),
            force,
            watch,
        )
        return prepare_documents(job, text, piece_bytes)

    return run


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def ids_by_hand(texts: list[str]) -> list[int]:
    """A byte is its number plus the three specials, in the order of the byte level's stand-ins."""
    tokenizer = documents.build_tokenizer(Request(pairing="windows", tokenizer="byte"), {}, list)
    return [token for text in texts for token in [*tokenizer.encode(text), END]]


def drawn_number(text: str) -> float:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


def tokens(outcome: Outcome, name: SplitName) -> list[int]:
    split = outcome.data.split(name)
    return split.tokens(0, split.n_tokens).tolist()


def expected_split(text: str) -> str:
    drawn = drawn_number(text)
    return "validation" if drawn < 0.1 else "test" if drawn < 0.2 else "train"


def test_a_dataset_gives_the_same_as_its_text_by_hand(prepare: Prepare):
    outcome = prepare(piece_bytes=1 << 30)
    data = outcome.data
    whole = "".join(DOCUMENTS).encode()
    assert data.meta.raw_sha256 == hashlib.sha256(whole).hexdigest()
    assert (data.meta.raw_bytes, data.meta.characters) == (len(whole), len("".join(DOCUMENTS)))
    assert data.meta.lines == 300
    assert data.meta.distinct_characters == len(set("".join(DOCUMENTS)))
    for name in SPLITS:
        mine = [text for text in DOCUMENTS if expected_split(text) == name]
        assert tokens(outcome, name) == ids_by_hand(mine)
        assert data.meta.splits[name].documents == len(mine) > 10


def test_documents_that_are_the_same_lie_in_one_split():
    shares = {"validation": 0.3, "test": 0.3}
    drawn = [split_of(f"text {k}", shares) for k in range(4000)]
    assert drawn == [split_of(f"text {k}", shares) for k in range(4000)]
    counts = [drawn.count(name) / 4000 for name in SPLITS]
    assert counts == pytest.approx([0.4, 0.3, 0.3], abs=0.03)


def stop_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    def stopping(*arguments: Any) -> Any:
        for number, batch in enumerate(original(*arguments)):
            if number == batches:
                raise KeyboardInterrupt
            yield batch

    original = documents.document_batches
    monkeypatch.setattr(documents, "document_batches", stopping)


@pytest.mark.parametrize("batches", [8, 9, 33, 60])
def test_a_stopped_prepare_goes_on_to_the_same_bytes(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int
):
    whole = prepare("whole", tokenizer="bpe:300")
    with monkeypatch.context() as patch:
        stop_after(patch, batches)
        with pytest.raises(Interrupted, match=r"the same command goes on after \d"):
            prepare(tokenizer="bpe:300")
    left = tmp_path / "data" / ".mine.partial"
    recorded = json.loads((left / "progress.json").read_text())["counts"]["raw_bytes"]
    assert recorded >= 1000
    seen: list[int] = []
    resumed = prepare(tokenizer="bpe:300", watch=lambda stage, done, total: seen.append(done))
    assert seen[0] > recorded  # nothing before is read again
    assert content(resumed.data.path) == content(whole.data.path)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["mine", "whole"]


def test_it_may_stop_again_and_again(prepare: Prepare, monkeypatch: pytest.MonkeyPatch):
    whole = prepare("whole")
    stops = 0
    for _ in range(100):
        with monkeypatch.context() as patch:
            stop_after(patch, 8)
            try:
                resumed = prepare()
            except Interrupted:
                stops += 1
            else:
                break
    assert stops > 5
    assert content(resumed.data.path) == content(whole.data.path)


def test_shards_of_an_earlier_process_are_taken_over(prepare: Prepare, monkeypatch: pytest.MonkeyPatch):
    from jepalm.data import writing

    monkeypatch.setattr(writing, "SHARD_TOKENS", 700)
    whole = prepare("whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 40)
        with pytest.raises(Interrupted):
            prepare()
    resumed = prepare()
    assert resumed.data.meta.splits["train"].shards > 10
    assert content(resumed.data.path) == content(whole.data.path)
    assert resumed.data.meta.content_sha256 == whole.data.meta.content_sha256


def test_stopped_before_the_first_record_it_leaves_nothing(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        prepare()
    assert list((tmp_path / "data").iterdir()) == []


def test_killed_it_leaves_nothing_that_looks_finished_and_goes_on(
    prepare: Prepare, folder: Path, tmp_path: Path
):
    program = f"""
import os, signal
from pathlib import Path
from jepalm.data.text import documents
from jepalm.data.hub import Corpus, open_hub
from jepalm.data.job import Job
from jepalm.data.prepared import Request
documents.BATCH_CHARACTERS = 150
text = open_hub(Corpus({str(folder)!r}))
request = Request(pairing="windows", tokenizer="byte", split=(80, 10, 10))
def watch(stage, done, total):
    if done > 5000:
        os.kill(os.getpid(), signal.SIGKILL)
job = Job(Path({str(tmp_path / "data")!r}), "mine", "dataset", text.origin, "none", request, watch=watch)
documents.prepare_documents(job, text, 1000)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, env=dict(os.environ))
    assert done.returncode == -9
    assert {path.name for path in (tmp_path / "data").iterdir()} == {".mine.partial", ".mine.lock"}
    with pytest.raises(UsageError, match="no prepared data"):
        open_prepared("mine", tmp_path / "data")
    with pytest.raises(UsageError, match=r"no meta\.json"):
        open_prepared(".mine.partial", tmp_path / "data")
    assert content(prepare().data.path) == content(prepare("whole").data.path)


def stopped(prepare: Prepare, monkeypatch: pytest.MonkeyPatch, **request: object) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 20)
        with pytest.raises(Interrupted):
            prepare(**request)


def test_stopped_work_with_other_settings_is_not_thrown_away(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
):
    stopped(prepare, monkeypatch)
    with pytest.raises(UsageError, match=r"holds a stopped prepare with other settings .*--force"):
        prepare(tokenizer="char")
    assert prepare(tokenizer="char", force=True).data.meta.tokenizer == "char"


def test_stopped_work_on_a_dataset_that_changed_is_refused(
    prepare: Prepare, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    stopped(prepare, monkeypatch)
    write_parquet(folder, "part-1", DOCUMENTS[100:])
    with pytest.raises(UsageError, match=r"the dataset has changed .*--force starts anew"):
        prepare()
    assert prepare(force=True).data.meta.raw_bytes > 0


def test_damaged_stopped_work_is_begun_anew(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = prepare("whole")
    stopped(prepare, monkeypatch)
    with open(tmp_path / "data" / ".mine.partial" / "tokenizer.json", "r+b") as file:
        file.write(b"?")
    assert content(prepare().data.path) == content(whole.data.path)


def test_two_at_a_time_do_not_write_into_each_other(prepare: Prepare):
    tried = []

    def again(stage: str, done: int, total: int) -> None:
        if tried:
            return
        tried.append(stage)
        with pytest.raises(JepalmError, match="another prepare is at work"):
            prepare()

    assert prepare(watch=again).made


def test_a_hash_of_more_than_one_piece_begins_each_with_the_one_before(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(documents, "BATCH_CHARACTERS", 1)
    whole = "".join(DOCUMENTS).encode()
    ends = [0]
    for document in itertools.accumulate(DOCUMENTS):
        if len(document.encode()) - ends[-1] >= 5000:
            ends.append(len(document.encode()))
    digest = b""
    for start, end in itertools.pairwise([*ends, len(whole)]):
        digest = hashlib.sha256(digest + whole[start:end]).digest()
    assert len(ends) > 2
    made = prepare(piece_bytes=5000)
    assert made.data.meta.raw_sha256 == digest.hex()


def test_own_splits_are_kept(prepare: Prepare, tmp_path: Path):
    for name, texts in (
        ("train", DOCUMENTS[:50]),
        ("validation", DOCUMENTS[50:60]),
        ("test", DOCUMENTS[60:75]),
    ):
        write_parquet(tmp_path / "own", f"{name}-00000", texts)
    outcome = prepare(corpus=Corpus(str(tmp_path / "own")))
    assert [outcome.data.meta.splits[name].documents for name in SPLITS] == [50, 10, 15]
    assert tokens(outcome, "test") == ids_by_hand(DOCUMENTS[60:75])
    assert outcome.data.meta.origin.own_splits == ("train", "validation", "test")


def test_a_split_that_is_missing_alone_is_taken_from_train(prepare: Prepare, tmp_path: Path):
    write_parquet(tmp_path / "own", "train-00000", DOCUMENTS[:200])
    write_parquet(tmp_path / "own", "test-00000", DOCUMENTS[200:])
    data = prepare(corpus=Corpus(str(tmp_path / "own"))).data
    held = sum(drawn_number(text) < 0.1 for text in DOCUMENTS[:200])
    assert [data.meta.splits[name].documents for name in SPLITS] == [200 - held, held, 100]


def test_articles_of_wikitext_are_documents(prepare: Prepare, tmp_path: Path):
    def article(title: str) -> list[str]:
        text = ["", " Text of it , with @-@ marks . \n", "", " = = Part = = \n", " = 1 = \n"]
        return ["", f" = {title} = \n", *text]

    corpus = replace(CORPORA["wikitext-103"], dataset=str(tmp_path / "wiki"))
    titles = {"train": ["A", "B = C", "D"], "validation": ["E"], "test": ["F", "G"]}
    for name, names in titles.items():
        write_parquet(tmp_path / "wiki", name, [row for title in names for row in article(title)] + [""])
    outcome = prepare(corpus=corpus, piece_bytes=1)
    for name in SPLITS:
        assert tokens(outcome, name) == ids_by_hand(["".join(article(title)) for title in titles[name]])


def test_articles_go_on_after_a_stop(prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [row for k in range(60) for row in ("", f" = {k} = \n", "", *[f" line {k} . \n"] * (k % 9))]
    corpus = replace(CORPORA["wikitext-103"], dataset=str(tmp_path / "wiki"))
    for name in SPLITS:
        write_parquet(tmp_path / "wiki", name, [*rows, "", ""])
    whole = prepare("whole", corpus=corpus)
    assert whole.data.meta.splits["test"].documents == 60
    for batches in (12, 25, 45):
        with monkeypatch.context() as patch:
            stop_after(patch, batches)
            with pytest.raises(Interrupted):
                prepare(f"after-{batches}", corpus=corpus)
        assert content(prepare(f"after-{batches}", corpus=corpus).data.path) == content(whole.data.path)


def test_jsonl_and_arrow_are_read_alike(prepare: Prepare, tmp_path: Path):
    import datasets

    rows = [{"body": text} for text in DOCUMENTS]
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "arrow")
    expected = prepare().data.meta.raw_sha256
    for name in ("lines", "arrow"):
        data = prepare(name, corpus=Corpus(str(tmp_path / name), column="body")).data
        assert data.meta.raw_sha256 == expected


def test_empty_rows_are_no_documents(prepare: Prepare, tmp_path: Path):
    write_parquet(tmp_path / "gaps", "part", [None, *DOCUMENTS[:100], "", *DOCUMENTS[100:], None])
    gaps, whole = prepare("gaps", corpus=Corpus(str(tmp_path / "gaps"))), prepare()
    assert tokens(gaps, "train") == tokens(whole, "train")
    assert gaps.data.meta.raw_sha256 == whole.data.meta.raw_sha256


def test_byte_pairs_are_learned_from_training_documents_of_every_file(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_parquet(tmp_path / "pair", "part-0", ["abab" * 30 + str(k) for k in range(40)])
    write_parquet(tmp_path / "pair", "part-1", ["xyxy" * 30 + str(k) for k in range(40)])
    monkeypatch.setattr(documents, "LEARNING_SAMPLE", 1000)
    given: list[str] = []

    def learn(request: Request, frequency: dict[str, int], sample: Callable[[], Any]) -> TextTokenizer:
        given.extend(sample())
        return original(request, frequency, lambda: iter(given))

    original = documents.build_tokenizer
    monkeypatch.setattr(documents, "build_tokenizer", learn)
    prepare(corpus=Corpus(str(tmp_path / "pair")), tokenizer="bpe:270")
    assert sum(map(len, given)) == 1000
    assert [sum(text.count(letter) for text in given) for letter in "ax"] == pytest.approx([240, 240], abs=15)
    whole = [text for text in given if len(text) > 119]
    assert {expected_split(text) for text in whole} == {"train"}


def test_too_few_documents_leave_nothing(prepare: Prepare, tmp_path: Path):
    write_parquet(tmp_path / "few", "part", DOCUMENTS[:3])
    with pytest.raises(UsageError, match=r"no document fell to \w+: 3 are too few"):
        prepare(corpus=Corpus(str(tmp_path / "few")), piece_bytes=1 << 20)
    assert not list((tmp_path / "data").glob("*"))


def test_a_network_that_fails_on_the_way_keeps_what_was_done(
    prepare: Prepare, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = prepare("whole")
    original = OpenDataset.rows

    def rows(self: OpenDataset, split: SplitName, file: int | None = None) -> Any:
        with hub._for_people("a/b"):
            for place, row in enumerate(original(self, split, file)):
                if place == 150:
                    raise ConnectionError("reset by peer")
                yield row

    with monkeypatch.context() as patch:
        patch.setattr(OpenDataset, "rows", rows)
        with pytest.raises(JepalmError, match=r"the hub .*; the same command goes on after .* kB"):
            prepare()
    assert content(prepare().data.path) == content(whole.data.path)


def test_spans_have_a_mask_and_else_the_same_tokens(prepare: Prepare):
    spans, windows = prepare("spans", pairing="spans"), prepare()
    assert spans.data.split("train").mask_id == windows.data.meta.vocab_size == 259
    assert tokens(spans, "train") == tokens(windows, "train")


def test_tokens_fit_what_training_reads(prepare: Prepare):
    import torch

    from jepalm.data.batches import Batches

    data = prepare(tokenizer="bpe:300").data
    (batch,) = Batches(
        data.split("validation"), batch_size=3, source_len=8, target_len=4, seed=0, device=torch.device("cpu")
    ).at(0)
    assert batch.source.ids.shape == (3, 8)
    joined = np.concatenate([shard.tokens for shard in data.split("validation").shards])
    assert (joined == END).sum() == data.meta.splits["validation"].documents
