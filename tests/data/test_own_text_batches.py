"""What a batch of windows brings for sources that are to hold the model's own text."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from jepalm.config import OwnTextConfig
from jepalm.data.batches import Batch, Batches
from jepalm.data.job import Outcome
from jepalm.data.prepared import PreparedData
from jepalm.errors import UsageError

Make = Callable[..., Outcome]


@pytest.fixture
def windows(make: Make, numbered: str) -> PreparedData:
    return make(numbered, pairing="windows").data


def batches(
    data: PreparedData, split: Any = "train", *, share: float | None = 0.5, **changed: Any
) -> Batches:
    options = {"batch_size": 8, "source_len": 9, "target_len": 5, "seed": 0, "device": "cpu"}
    own = None if share is None else OwnTextConfig(share=share, after=changed.pop("after", 0))
    return Batches(data.split(split), own_text=own, **{**options, **changed})


def rows(parts: list[Batch]) -> list[tuple[list[int], ...]]:
    """Earlier, source and target tokens of each pair, and whether it is to hold own text."""
    found = []
    for part in parts:
        assert part.earlier is not None
        assert part.own is not None
        own = set(part.own.tolist())
        views = (part.earlier.ids.tolist(), part.source.ids.tolist(), part.target.ids.tolist())
        found += [(*texts, [row in own]) for row, texts in enumerate(zip(*views, strict=True))]
    return found


def test_what_stands_before_a_source_comes_with_it_and_lies_in_the_split(windows: PreparedData):
    split = windows.split("train")
    stream = windows.tokenizer.decode(split.tokens(0, split.n_tokens).tolist())
    drawn = batches(windows)
    for step in range(40):
        for earlier, source, target, _ in rows(drawn.at(step)):
            assert (len(earlier), len(source), len(target)) == (5, 9, 5)
            assert windows.tokenizer.decode([*earlier, *source, *target]) in stream


def test_a_share_of_the_sources_is_to_hold_own_text(windows: PreparedData):
    drawn = batches(windows, share=0.2, batch_size=50)
    numbers = [sum(own for *_, (own,) in rows(drawn.at(step))) for step in range(40)]
    assert sum(numbers) / 2000 == pytest.approx(0.2, abs=0.035)  # 3.9 deviations
    assert len(set(numbers)) > 5


def test_which_is_a_function_of_seed_and_step_and_of_no_rank(windows: PreparedData):
    whole = rows(batches(windows).at(3))
    parts = [
        row
        for rank in range(2)
        for row in rows(batches(windows, rank=rank, world_size=2, micro_batch_size=2).at(3))
    ]
    assert parts == whole == rows(batches(windows).at(3))
    other = rows(batches(windows, seed=1).at(3))
    assert [row[3] for row in other] != [row[3] for row in whole]


def test_steps_before_bring_nothing(windows: PreparedData):
    drawn = batches(windows, share=1.0, after=2)
    assert [drawn.at(step)[0].own is None for step in range(4)] == [True, True, False, False]


def test_without_a_share_batches_are_what_they_were_bit_for_bit(windows: PreparedData):
    plain, off = batches(windows, share=None), batches(windows, share=0.0)
    for step in range(5):
        (one,), (other,) = plain.at(step), off.at(step)
        assert torch.equal(one.source.ids, other.source.ids)
        assert torch.equal(one.target.ids, other.target.ids)
        assert other.earlier is None
        assert other.own is None


def test_held_out_pairs_and_the_length_of_an_epoch_do_not_change(windows: PreparedData):
    plain, own = batches(windows, share=None), batches(windows)
    assert own.steps_per_pass == plain.steps_per_pass
    for one, other in zip(plain.fixed(3), own.fixed(3), strict=True):
        assert torch.equal(one.source.ids, other.source.ids)
        assert other.earlier is None


def test_a_split_without_room_before_a_window_is_refused(windows: PreparedData):
    size = windows.split("test").n_tokens
    batches(windows, "test", source_len=size - 10, target_len=5, batch_size=1).at(0)
    with pytest.raises(
        UsageError, match=f"fewer than one window of {size - 9} \\+ 5 and the 5 tokens before"
    ):
        batches(windows, "test", source_len=size - 9, target_len=5, batch_size=1)


def test_the_first_pairs_and_another_device_keep_what_they_have(windows: PreparedData):
    (batch,) = batches(windows).at(0)
    assert batch.own is not None
    part = batch.first(4)
    assert part.own is not None
    assert part.own.tolist() == [row for row in batch.own.tolist() if row < 4]
    moved = batch.to("meta")
    assert moved.earlier is not None
    assert moved.own is not None
    assert {moved.earlier.ids.device.type, moved.own.device.type} == {"meta"}
