"""The n-gram expert: what it counted, what it says of training text, and the file of its counts."""

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from jepalm.data.batches import Batches
from jepalm.data.ngram import NGram
from jepalm.data.ngram_expert import NGRAM, count_expert, read_expert
from jepalm.data.prepared import PreparedData, open_prepared
from jepalm.data.tokenizer import TextTokenizer, char_tokenizer
from jepalm.errors import JepalmError, UsageError
from jepalm.objective.context import read_before

ORDER, FOLDS, HINT = 3, 4, "train again"
END = TextTokenizer.END


def batches(prepared: PreparedData, **changed: Any) -> Batches:
    options = {"source_len": 12, "target_len": 12, "end_targets": True, "keep_starts": True} | changed
    return Batches(prepared.split("train"), batch_size=8, seed=0, device="cpu", **options)


def events(prepared: PreparedData, left_out: range) -> list[tuple[tuple[int, ...], int]]:
    """Past and next token of all that a decoder learns, but for n-grams with a token in a part of the stream.

    Of windows all tokens, of pairs those of the targets and their ends, behind the source.
    """
    split = prepared.split("train")
    stream = split.tokens(0, split.n_tokens).tolist()
    texts = [([], list(enumerate(stream)))]
    if split.n_pairs:
        texts = []
        for pair in np.arange(split.n_pairs)[:, None]:
            (start, end), (first, last) = (split.spans(role, pair)[0] for role in ("source", "target"))
            before = [(place, stream[place]) for place in range(max(start, end - ORDER + 1), end)]
            own = [(place, stream[place]) for place in range(first, last)]
            texts.append((before, [*own, (last, END)]))
    found = []
    for before, own in texts:
        whole = [*before, *own]
        for at in range(len(before), len(whole)):
            for length in range(min(at, ORDER - 1) + 1):
                gram = whole[at - length : at + 1]
                if all(place not in left_out for place, _ in gram):
                    found.append((tuple(token for _, token in gram[:-1]), gram[-1][1]))
    return found


def probability(seen: dict[tuple[int, ...], Counter[int]], past: list[int], token: int, vocab: int) -> float:
    found = 1 / vocab
    for length in range(len(past) + 1):
        counts = seen.get(tuple(past[len(past) - length :]))
        if not counts:
            break
        found = (counts[token] + len(counts) * found) / (counts.total() + len(counts))
    return found


@pytest.mark.parametrize("pairing", ["windows", "lines"])
def test_a_training_token_is_predicted_by_counts_that_never_contain_it(data_root: Path, pairing: str):
    prepared = open_prepared(pairing, data_root)
    vocab, n_tokens = prepared.meta.vocab_size, prepared.split("train").n_tokens
    expert = count_expert(prepared, ORDER, FOLDS)
    edges = np.linspace(0, n_tokens, FOLDS + 1).astype(int)
    counts: list[dict[tuple[int, ...], Counter[int]]] = []
    for start, end in itertools.pairwise(edges):
        # the last end token stands behind all tokens, in the last fold
        seen: dict[tuple[int, ...], Counter[int]] = {}
        for past, token in events(prepared, range(start, end + (end == n_tokens))):
            seen.setdefault(past, Counter())[token] += 1
        counts.append(seen)
    found, expected = [], []
    for step in range(3):
        (batch,) = batches(prepared).at(step)
        previous, logs = read_before(batch.source, batch.target, ORDER - 1, expert)
        assert logs is not None
        assert batch.target.in_stream is not None
        for row, place in torch.nonzero(batch.target.mask).tolist():
            at = int(batch.target.in_stream[row, place])
            fold = min(int(np.searchsorted(edges, at, side="right")) - 1, FOLDS - 1)
            token = int(batch.target.ids[row, place])
            past = [token for token in previous[row, place].flip(0).tolist() if token]
            found.append(float(logs[row, place, token].exp()))
            expected.append(probability(counts[fold], past, token, vocab))
    assert found == pytest.approx(expected, rel=1e-5)
    assert len({round(value, 6) for value in found}) > 10


def test_hidden_tokens_are_predicted_without_the_fold_that_they_lie_in(data_root: Path):
    prepared = open_prepared("spans", data_root)
    expert = count_expert(prepared, ORDER, FOLDS)
    (batch,) = batches(prepared).at(0)
    stream = prepared.split("train").tokens(0, prepared.split("train").n_tokens)
    places = batch.target.in_stream
    assert places is not None
    assert stream[places.numpy()].tolist() == batch.target.ids.tolist()
    previous, logs = read_before(batch.source, batch.target, 2, expert)
    assert logs is not None
    assert torch.equal(logs, expert.log_probs(previous, places))


def test_text_that_is_not_trained_on_is_predicted_by_all_counts(data_root: Path):
    prepared = open_prepared("windows", data_root)
    split = prepared.split("train")
    ngram = NGram.fit(split.tokens(0, split.n_tokens), prepared.meta.vocab_size, ORDER)
    expert = count_expert(prepared, ORDER, FOLDS)
    (batch,) = batches(prepared, keep_starts=False).at(0)
    _, logs = read_before(batch.source, batch.target, 2, expert)
    assert logs is not None
    nats = ngram.nll(batch.source.ids.tolist(), batch.target.ids.tolist())
    found = -logs.gather(-1, batch.target.ids[..., None]).squeeze(-1)
    assert found.numpy() == pytest.approx(np.stack(nats), rel=1e-5)


def test_what_is_kept_is_what_would_be_counted_again(data_root: Path, monkeypatch: pytest.MonkeyPatch):
    expert = count_expert(open_prepared("windows", data_root), ORDER, FOLDS)
    past = np.array([[3, 4, 5], [4, 5, 6], [3, 4, 9], [0, 0, 0], [5, 3, 4]])  # the third is the first
    expected = np.log(expert.ngram.distributions(past[:, :2])).astype(np.float32)
    monkeypatch.setattr("jepalm.data.ngram_expert.KEPT_NUMBERS", 5 * expert.ngram.vocab_size)
    for rows in ([0], [0, 2], [1, 2, 3], [4, 0], [0, 1, 2, 3, 4]):
        assert np.array_equal(expert.after(past[rows]), expected[rows])


@pytest.fixture
def folder(data_root: Path, tmp_path: Path) -> Path:
    prepared = open_prepared("windows", data_root)
    (tmp_path / NGRAM).write_bytes(count_expert(prepared, ORDER).as_file(prepared.tokenizer, "abc"))
    return tmp_path


def test_counts_of_a_file_are_those_that_were_written(data_root: Path, folder: Path):
    prepared = open_prepared("windows", data_root)
    written = count_expert(prepared, ORDER)
    read = read_expert(folder, prepared.tokenizer, ORDER, "abc", HINT)
    past = torch.randint(0, prepared.meta.vocab_size, (4, 5, 2), generator=torch.Generator().manual_seed(0))
    assert torch.equal(read.log_probs(past, None), written.log_probs(past, None))


def refused(folder: Path, tokenizer: TextTokenizer, order: int = ORDER, data: str = "abc") -> str:
    with pytest.raises((UsageError, JepalmError)) as caught:
        read_expert(folder, tokenizer, order, data, HINT)
    assert "\n" not in str(caught.value)
    assert caught.value.hint == HINT
    return str(caught.value).replace(str(folder), "RUN")


def test_files_that_do_not_go_with_the_model_are_one_line_each(data_root: Path, folder: Path):
    tokenizer = open_prepared("windows", data_root).tokenizer
    other = char_tokenizer()
    path = folder / NGRAM
    assert refused(folder, other).startswith(f"RUN/{NGRAM} is of another tokenizer than its model")
    assert refused(folder, tokenizer, 4).startswith(f"RUN/{NGRAM} is of another model.decoder.ngram")
    assert refused(folder, tokenizer, data="d").startswith(f"RUN/{NGRAM} is of other data than its model")
    arrays, whole = load_file(path), path.read_bytes()
    for name, wrong in (("pairs_1", arrays["pairs_1"][::-1].copy()), ("counts_2", arrays["counts_2"] * 0)):
        save_file({**arrays, name: wrong}, path, _metadata(whole))
        assert refused(folder, tokenizer).startswith(f"RUN/{NGRAM} is damaged")
    path.write_bytes(whole[:-9])
    assert refused(folder, tokenizer).startswith(f"RUN/{NGRAM} is damaged")
    path.unlink()
    assert refused(folder, tokenizer).startswith(f"RUN has no {NGRAM}, the counts that its decoder reads")


def _metadata(raw: bytes) -> dict[str, str]:
    size = int.from_bytes(raw[:8], "little")
    found: dict[str, str] = json.loads(raw[8 : 8 + size])["__metadata__"]
    return found
