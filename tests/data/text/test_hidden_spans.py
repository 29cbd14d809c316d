import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jepalm.config import SpansConfig
from jepalm.data import writing
from jepalm.data.batches import Batch, Batches
from jepalm.data.job import Outcome
from jepalm.data.prepared import PreparedData
from jepalm.data.text.spans import composition, draw_places, hide, n_hidden
from jepalm.errors import UsageError

Make = Callable[..., Outcome]
LENGTH = 20


@pytest.fixture
def data(make: Make, numbered: str, monkeypatch: pytest.MonkeyPatch) -> PreparedData:
    monkeypatch.setattr(writing, "SHARD_TOKENS", 300)
    return make(numbered, pairing="spans").data


def batches(data: PreparedData, split: Any = "train", **changed: Any) -> Batches:
    options = {"batch_size": 8, "source_len": LENGTH, "target_len": LENGTH, "seed": 0, "device": "cpu"}
    return Batches(data.split(split), **{**options, **changed})


def rows(found: list[Batch]) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """(source ids, target ids, target places) of each text."""
    for batch in found:
        assert batch.target.places is not None
        parts = (batch.source.ids, batch.target.ids, batch.target.places)
        yield from zip(*(part.tolist() for part in parts), strict=True)


def run_lengths(places: list[int]) -> list[int]:
    cuts = [0, *(at for at in range(1, len(places)) if places[at] != places[at - 1] + 1), len(places)]
    return [after - before for before, after in itertools.pairwise(cuts)]


@pytest.mark.parametrize(
    ("share", "length", "expected"), [(0.3, 64, 19), (0.5, 4, 2), (0.01, 10, 1), (0.99, 10, 9), (0.9, 2, 1)]
)
def test_the_hidden_share_is_rounded_and_leaves_one_token_on_either_side(
    share: float, length: int, expected: int
):
    assert n_hidden(SpansConfig(share=share), length) == expected


@given(st.integers(2, 90), st.floats(0.01, 0.99), st.floats(1, 30), st.integers(0, 99))
@settings(max_examples=100)
def test_every_text_hides_as_many_tokens_in_as_many_runs(length: int, share: float, mean: float, seed: int):
    config = SpansConfig(share=share, mean_length=mean)
    hidden = n_hidden(config, length)
    runs = min(max(1, round(hidden / mean)), length - hidden + 1)
    for places in draw_places(np.random.default_rng(seed), 5, length, config).tolist():
        assert len(places) == hidden
        assert places == sorted(set(places))
        assert places[0] >= 0
        assert places[-1] < length
        assert len(run_lengths(places)) == runs


def test_19_hidden_of_64_in_runs_of_6_are_3_runs_anywhere_in_the_text():
    drawn = draw_places(np.random.default_rng(0), 2000, 64, SpansConfig(share=0.3, mean_length=6)).tolist()
    assert {len(run_lengths(places)) for places in drawn} == {3}
    assert min(places[0] for places in drawn) == 0
    assert max(places[-1] for places in drawn) == 63
    assert len({tuple(places) for places in drawn}) > 1900


def test_every_composition_is_equally_likely():
    drawn = composition(np.random.default_rng(0), 6000, 4, 2).tolist()
    counts = Counter(map(tuple, drawn))
    assert counts.keys() == {(1, 3), (2, 2), (3, 1)}
    assert all(abs(count / 6000 - 1 / 3) < 0.03 for count in counts.values())
    assert composition(np.random.default_rng(0), 1, 5, 1).tolist() == [[5]]
    assert composition(np.random.default_rng(0), 1, 3, 3).tolist() == [[1, 1, 1]]


def test_hiding_takes_tokens_out_and_leaves_masks():
    ids = torch.tensor([[10, 11, 12, 13], [20, 21, 22, 23]])
    source, target = hide(ids, torch.tensor([[1, 2], [0, 3]]), 99)
    assert source.tolist() == [[10, 99, 99, 13], [99, 21, 22, 99]]
    assert target.tolist() == [[11, 12], [20, 23]]


def test_the_tokens_are_those_of_windows_and_the_vocabulary_has_one_more(make: Make, numbered: str):
    spans = make(numbered, "spans", pairing="spans").data
    windows = make(numbered, "windows", pairing="windows").data
    assert spans.meta.vocab_size == windows.meta.vocab_size + 1 == 101
    one, other = spans.split("train"), windows.split("train")
    assert (one.mask_id, other.mask_id) == (100, None)
    assert one.tokens(0, one.n_tokens).tolist() == other.tokens(0, other.n_tokens).tolist()


def test_a_batch_is_texts_of_the_stream_with_masks_where_the_targets_were(data: PreparedData):
    split = data.split("train")
    stream = data.tokenizer.decode(split.tokens(0, split.n_tokens).tolist())
    for step in range(10):
        (batch,) = batches(data).at(step)
        assert batch.source.lengths.tolist() == [LENGTH] * 8
        assert batch.target.lengths.tolist() == [6] * 8
        assert batch.source.places is not None
        assert batch.source.places.tolist() == [list(range(LENGTH))] * 8
        assert (batch.n_pairs, batch.n_target_tokens, batch.n_read_tokens) == (8, 48, 160)
        assert (batch.whole, batch.n_whole, batch.action) == (None, 0, None)
        for source, target, places in rows([batch]):
            assert [place for place, token in enumerate(source) if token == 100] == places
            for place, token in zip(places, target, strict=True):
                source[place] = token
            assert data.tokenizer.decode(source) in stream


def test_a_step_decides_texts_and_gaps_and_seeds_differ(data: PreparedData):
    one, other = batches(data), batches(data)
    for step in (30, 3, 0):
        other.at(step + 1)
        assert list(rows(one.at(step))) == list(rows(other.at(step)))
    assert list(rows(one.at(0))) != list(rows(batches(data, seed=1).at(0)))


def test_gaps_are_drawn_anew_at_each_visit_of_a_text(data: PreparedData):
    length = data.split("train").n_tokens  # one text in all
    drawn = batches(data, batch_size=1, source_len=length, target_len=length)
    places = {tuple(next(rows(drawn.at(step)))[2]) for step in range(5)}
    assert len(places) == 5


def test_ranks_and_micro_batches_make_up_the_whole_batch(data: PreparedData):
    for world_size, micro in [(1, 4), (2, 2), (4, 1)]:
        parts = [
            part
            for rank in range(world_size)
            for part in batches(data, rank=rank, world_size=world_size, micro_batch_size=micro).at(7)
        ]
        assert list(rows(parts)) == list(rows(batches(data).at(7)))
        assert {(part.n_pairs, part.n_target_tokens, part.n_read_tokens) for part in parts} == {(8, 48, 160)}


def test_held_out_gaps_depend_neither_on_the_seed_nor_on_the_number_of_texts(data: PreparedData):
    few = list(rows(batches(data).fixed(1)))
    assert few == list(rows(batches(data, seed=5, rank=1, world_size=2).fixed(1)))
    several = list(rows(batches(data).fixed(3)))
    assert [places for _, _, places in several[:8]] == [places for _, _, places in few]
    assert len({tuple(places) for _, _, places in several}) > 8  # of 15


@pytest.mark.parametrize("static_shapes", [False, True])
def test_resident_and_mapped_give_the_same(data: PreparedData, static_shapes: bool):
    assert len(data.split("train").shards) > 3
    resident, mapped = (
        batches(data, resident=resident, static_shapes=static_shapes) for resident in (True, False)
    )
    for step in range(30):
        assert list(rows(resident.at(step))) == list(rows(mapped.at(step)))


def test_a_split_shorter_than_one_text_is_refused(data: PreparedData):
    with pytest.raises(UsageError, match=r"fewer than one window of 1000 \("):
        batches(data, "test", source_len=1000, target_len=1000)
