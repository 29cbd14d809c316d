import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jepalm.data import writing
from jepalm.data.batches import Batch, Batches, Tokens
from jepalm.data.job import Outcome
from jepalm.data.prepared import PreparedData, Split, open_prepared
from jepalm.data.shuffling import permuted
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import UsageError

Make = Callable[..., Outcome]
Texts = list[tuple[str, str]]


@pytest.fixture
def data(make: Make, numbered: str) -> PreparedData:
    return make(numbered).data


def batches(split: Split, **changed: Any) -> Batches:
    options = {"batch_size": 8, "source_len": 16, "target_len": 16, "seed": 0, "device": "cpu"} | changed
    return Batches(split, **options)


def texts(data: PreparedData, found: list[Batch]) -> Texts:
    decode = data.tokenizer.decode
    return [
        (decode(source[:n].tolist()), decode(target[:m].tolist()))
        for batch in found
        for source, n, target, m in zip(
            batch.source.ids, batch.source.lengths, batch.target.ids, batch.target.lengths, strict=True
        )
    ]


def same(one: list[Batch], other: list[Batch]) -> bool:
    def equal(a: Tokens | None, b: Tokens | None) -> bool:
        if a is None or b is None:
            return a is b
        return torch.equal(a.ids, b.ids) and torch.equal(a.lengths, b.lengths)

    return len(one) == len(other) and all(
        equal(a.source, b.source)
        and equal(a.target, b.target)
        and equal(a.action, b.action)
        and (a.n_pairs, a.n_target_tokens) == (b.n_pairs, b.n_target_tokens)
        and (a.n_read_tokens, a.n_whole) == (b.n_read_tokens, b.n_whole)
        for a, b in zip(one, other, strict=True)
    )


@given(st.integers(1, 5000), st.integers(0, 2**31))
@settings(max_examples=60)
def test_shuffle_is_a_permutation(n: int, seed: int):
    keys = np.random.default_rng(seed).integers(0, 2**32, 6, dtype=np.uint64)
    assert sorted(permuted(np.arange(n), n, keys).tolist()) == list(range(n))


def test_shuffle_leaves_no_order_behind():
    keys = np.random.default_rng(0).integers(0, 2**32, 6, dtype=np.uint64)
    shuffled = permuted(np.arange(36_000), 36_000, keys)
    assert abs(np.corrcoef(shuffled, np.arange(36_000))[0, 1]) < 0.02
    assert abs(np.corrcoef(shuffled[1:], shuffled[:-1])[0, 1]) < 0.02
    assert np.mean(np.abs(np.diff(shuffled)) == 1) < 0.001


def test_shuffle_reaches_pairs_of_a_terabyte():
    keys = np.random.default_rng(0).integers(0, 2**32, 6, dtype=np.uint64)
    n = 40_000_000_000
    places = permuted(np.arange(n - 1000, n), n, keys)
    assert len(set(places.tolist())) == 1000
    assert 0 <= places.min() <= places.max() < n


def test_one_pass_sees_each_pair_once_and_batches_cross_passes(data: PreparedData):
    drawn = batches(data.split("train"))
    assert (drawn.n_pairs, drawn.steps_per_pass) == (179, 22)
    rows = [
        pair for step in range(45) for pair in texts(data, drawn.at(step))
    ]  # 360 rows, two passes are 358
    expected = Counter(texts(data, batches(data.split("train"), batch_size=1).fixed(179)))
    assert len(expected) == 179
    assert Counter(rows[:179]) == Counter(rows[179:358]) == expected
    assert rows[:179] != rows[179:358]


def test_steps_are_pure_and_seeds_differ(data: PreparedData):
    split = data.split("train")
    one, other = batches(split), batches(split)
    for step in (30, 3, 0):
        other.at(step + 1)
        assert same(one.at(step), other.at(step))
    assert not same(one.at(0), batches(split, seed=1).at(0))


@given(
    st.sampled_from(["lines", "windows"]),
    st.sampled_from([(1, 1), (1, 4), (2, 2), (2, 1), (4, 2), (8, 1)]),
    st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_ranks_and_micro_batches_make_up_the_whole_batch(
    prepared_kinds: dict[str, PreparedData], pairing: str, shape: tuple[int, int], step: int
):
    world_size, micro = shape
    data = prepared_kinds[pairing]
    split = data.split("train")
    whole = batches(split).at(step)
    parts = [
        part
        for rank in range(world_size)
        for part in batches(split, rank=rank, world_size=world_size, micro_batch_size=micro).at(step)
    ]
    assert len(whole) == 1
    assert texts(data, parts) == texts(data, whole)
    assert {part.n_target_tokens for part in parts} == {int(whole[0].target.lengths.sum())}
    assert {part.n_pairs for part in parts} == {8}
    assert all(len(part.source.ids) == micro for part in parts)


@pytest.fixture(scope="module")
def prepared_kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PreparedData]:
    from jepalm.data.job import Job
    from jepalm.data.prepared import Origin, Request
    from jepalm.data.text.preparing import prepare_text
    from jepalm.data.text.reading import RawText

    root = tmp_path_factory.mktemp("data")
    text = "".join(f"{number} {'x' * (number % 7)}\n" for number in range(200)).encode()
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "SHARD_TOKENS", 300)
        for pairing in ("lines", "windows"):
            request = Request.model_validate({"pairing": pairing, "tokenizer": "char"})
            job = Job(root, pairing, "text", Origin(source="given", where=[]), "none", request)
            made[pairing] = prepare_text(job, RawText(content=text)).data
    return made


@pytest.mark.parametrize("pairing", ["lines", "windows"])
@pytest.mark.parametrize("static_shapes", [False, True])
def test_resident_and_mapped_give_the_same(
    prepared_kinds: dict[str, PreparedData], pairing: str, static_shapes: bool
):
    split = prepared_kinds[pairing].split("train")
    assert len(split.shards) > 3
    kinds = [
        batches(split, resident=resident, static_shapes=static_shapes, source_len=5, target_len=4)
        for resident in (True, False)
    ]
    for step in range(30):
        assert same(kinds[0].at(step), kinds[1].at(step))
    assert same(kinds[0].fixed(3), kinds[1].fixed(3))


def test_actions_are_gathered_beside_source_and_target(make_rows: Callable[..., PreparedData]):
    rows = [f'{{"source": "s{k}", "target": "t{k}", "action": "{"a" * (k + 1)}"}}' for k in range(10)]
    split = make_rows(rows).split("train")
    batch = batches(split, batch_size=4, source_len=3).fixed(1)[0]
    assert batch.action is not None
    assert batch.action.lengths.tolist() == [1, 3, 3, 3]  # of 1, 3, 5, 7: pairs 0, 2, 4, 6
    assert same(batches(split, resident=True).at(0), batches(split, resident=False).at(0))


def test_long_sources_keep_their_end_and_long_targets_their_start(make: Make):
    data = make("abcdef\n" * 20).data
    drawn = batches(data.split("train"), source_len=3, target_len=2)
    assert set(texts(data, drawn.at(0))) == {("ef\n", "ab")}
    assert drawn.truncated == 13  # all pairs of 14 lines
    assert batches(data.split("train"), source_len=7, target_len=7).truncated == 0


def test_a_batch_knows_which_targets_are_whole_and_how_much_is_read(make_rows: Callable[..., PreparedData]):
    row = '{"source": "abcde", "target": "%s", "action": "go"}'
    data = make_rows([row % target for target in ("x", "xyz", "wxyz", "vwxyz")] * 10)
    found = batches(data.split("train"), source_len=4, target_len=3, micro_batch_size=4).at(0)
    assert len(found) == 2
    for batch in found:
        assert batch.whole is not None
        lengths = [len(text) for _, text in texts(data, [batch])]
        assert all(whole or length == 3 for whole, length in zip(batch.whole.tolist(), lengths, strict=True))
        assert batch.n_read_tokens == 8 * (4 + 2)
        assert batch.n_whole == sum(int(other.whole.sum()) for other in found if other.whole is not None)
    assert 0 < found[0].n_whole < 8


def test_latents_of_the_whole_batch_are_counted(make: Make):
    data = make("of unequal\nlengths\nare\nthe lines of plays\n" * 6).data
    found = batches(data.split("train"), micro_batch_size=2, tokens_per_latent=4).at(0)
    lengths = [int(length) for part in found for length in part.target.lengths]
    assert {part.n_target_latents for part in found} == {sum(math.ceil(length / 4) for length in lengths)}


def test_windows_have_no_end(prepared_kinds: dict[str, PreparedData]):
    (batch,) = batches(prepared_kinds["windows"].split("train"), source_len=1).at(0)
    assert (batch.whole, batch.n_whole, batch.n_read_tokens) == (None, 0, 8)


def test_padding_is_on_the_right_and_the_mask_tells_it(make: Make):
    data = make("a\nbcd\n" * 20).data
    batch = batches(data.split("train"), batch_size=2).fixed(1)[0]
    longest = int(batch.source.lengths.max())
    assert batch.source.ids.shape == (2, longest)
    assert torch.equal(batch.source.mask.sum(1), batch.source.lengths)
    assert torch.equal(batch.source.ids == 0, ~batch.source.mask)


def test_static_shapes_are_few_and_their_counts_are_scalars(make: Make):
    split = make("".join("a" * (1 + n % 14) + "\n" for n in range(80))).data.split("train")
    plain, static = (batches(split, batch_size=2, static_shapes=static) for static in (False, True))
    seen = set()
    for step in range(20):
        (one,), (other,) = plain.at(step), static.at(step)
        widths = other.source.ids.shape[1], other.target.ids.shape[1]
        longest = max(one.source.ids.shape[1], one.target.ids.shape[1])
        assert widths == (next(width for width in (4, 8, 16) if width >= longest),) * 2
        seen.add(widths)
        assert isinstance(other.n_target_tokens, torch.Tensor)
        assert float(other.n_target_tokens) == one.n_target_tokens
        assert other.n_pairs == 2
    assert len(seen) > 1


def test_windows_are_neighbouring_spans_of_the_stream(prepared_kinds: dict[str, PreparedData]):
    data = prepared_kinds["windows"]
    split = data.split("train")
    stream = data.tokenizer.decode(split.tokens(0, split.n_tokens).tolist())
    drawn = batches(split, source_len=9, target_len=5)
    assert drawn.n_pairs == split.n_tokens // 14
    assert drawn.truncated == 0
    starts = set()
    for step in range(50):
        for source, target in texts(data, drawn.at(step)):
            assert (len(source), len(target)) == (9, 5)
            assert source + target in stream
            starts.add(source + target)
    assert len(starts) > 250  # of 400, drawn anywhere


def test_fixed_pairs_are_evenly_spaced_and_the_same_on_all_ranks(data: PreparedData):
    split = data.split("train")
    first = [source for source, _ in texts(data, batches(split, batch_size=4, rank=1, world_size=2).fixed(1))]
    assert [int(source.split()[0]) for source in first] == [0, 44, 89, 134]  # k * 179 // 4
    counted = batches(split, batch_size=4, micro_batch_size=2).fixed(2)
    assert [batch.n_pairs for batch in counted] == [2, 2, 2, 2]
    assert [batch.n_target_tokens for batch in counted] == [
        int(batch.target.lengths.sum()) for batch in counted
    ]


def test_fixed_pairs_are_at_most_all(data: PreparedData):
    assert len(texts(data, batches(data.split("test")).fixed(1000))) == 8


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"world_size": 3}, "does not divide over 3 processes"),
        ({"micro_batch_size": 3}, "does not divide the 8 pairs"),
        ({"world_size": 2, "micro_batch_size": 8}, "does not divide the 4 pairs"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(data: PreparedData, changed: dict[str, int], why: str):
    with pytest.raises(UsageError, match=why):
        batches(data.split("train"), **changed)


def test_split_shorter_than_a_window_is_refused(prepared_kinds: dict[str, PreparedData]):
    with pytest.raises(UsageError, match="fewer than one window of 1000 \\+ 16"):
        batches(prepared_kinds["windows"].split("test"), source_len=1000)


def test_targets_that_are_whole_end_with_the_end_token_and_cut_ones_do_not(data_root: Path):
    split = open_prepared("lines", data_root).split("train")
    settings = {"batch_size": 28, "source_len": 12, "target_len": 6, "seed": 0, "device": "cpu"}
    plain, ending = (Batches(split, **settings, end_targets=end).at(0)[0] for end in (False, True))
    assert ending.whole is not None
    assert 0 < int(ending.whole.sum()) < 28
    for row, whole in enumerate(ending.whole.tolist()):
        n, m = int(plain.target.lengths[row]), int(ending.target.lengths[row])
        expected = plain.target.ids[row, :n].tolist() + [TextTokenizer.END] * whole
        assert (m, ending.target.ids[row, :m].tolist()) == (n + whole, expected)
    assert ending.n_target_tokens == int(ending.target.lengths.sum())


def test_windows_get_no_end_token(data_root: Path):
    split = open_prepared("windows", data_root).split("train")
    settings = {"batch_size": 4, "source_len": 12, "target_len": 6, "seed": 0, "device": "cpu"}
    batch = Batches(split, **settings, end_targets=True).at(0)[0]
    assert (batch.target.lengths == 6).all()
    assert (batch.target.ids != TextTokenizer.END).all()
