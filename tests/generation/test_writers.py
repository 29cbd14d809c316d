"""What a run is asked to write, and what it refuses."""

from typing import Any

import pytest
import torch

from jepalm.config import HardwareConfig
from jepalm.errors import UsageError
from jepalm.generation.loading import TrainedModel, load_trained
from jepalm.generation.refine import Refining

CPU = HardwareConfig(device="cpu", precision="fp32", threads=1)


@pytest.fixture(scope="module")
def unmasking(train_tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    run = train_tiny(
        tmp_path_factory.mktemp("unmasking"),
        data__name="windows",
        model__target_len=8,
        model__predictor__unmasked="true",
        objective__generation__weight=1,
        objective__length__kind="none",
        training__steps=2,
    )
    return load_trained(run, "last", CPU)


def test_passes_are_counted_over_all_passages(unmasking: TrainedModel, continue_text: Any):
    made = continue_text(unmasking, "abcde", passages=3, temperature=1.0, refining=Refining(4))
    assert made.nfe == 12
    assert len(made.text[0]) == 24
    assert continue_text(unmasking, "abcde", passages=3).nfe == 3


def test_the_seed_decides_a_refined_text(unmasking: TrainedModel, continue_text: Any):
    texts = [
        continue_text(unmasking, "abcde", temperature=1.0, seed=seed, refining=Refining(4)).text
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("length", [0, 13, -1])
def test_a_length_the_model_cannot_write_names_the_range(
    lines: TrainedModel, length: int, continue_text: Any
):
    with pytest.raises(UsageError, match="this model writes 1 to 12 tokens a pass"):
        continue_text(lines, "ab", length=length)


def test_the_length_asked_for_is_that_of_every_passage(lines: TrainedModel, continue_text: Any):
    made = continue_text(lines, "ab", passages=3, length=5)
    assert [passage.lengths.tolist() for passage in made.passages] == [[5], [5], [5]]
    assert made.nfe == 3


@pytest.mark.parametrize("model", ["lines", "windows"])
def test_each_passages_text_is_the_next_ones_source(
    model: str, request: pytest.FixtureRequest, continue_text: Any
):
    trained = request.getfixturevalue(model)
    both = continue_text(trained, "ab", passages=2, length=6)
    first = continue_text(trained, "ab", length=6)
    text = (
        first.text[0] if model == "lines" else "ab" + first.text[0]
    )  # of windows as much as the model reads
    second = continue_text(trained, text, length=6)
    assert both.text[0] == first.text[0] + second.text[0]
    assert torch.equal(both.passages[1].embeddings, second.passages[0].embeddings)


def test_samples_differ_and_the_same_seed_gives_the_same(lines: TrainedModel, continue_text: Any):
    drawn = [
        continue_text(lines, "ab", samples=3, length=12, temperature=1.0, seed=seed).text
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 3


def test_a_model_without_unmasked_positions_refuses_in_one_line(lines: TrainedModel, continue_text: Any):
    with pytest.raises(UsageError, match=r"^\S+ cannot refine: it was trained without unmasked positions"):
        continue_text(lines, "ab", refining=Refining(2))
