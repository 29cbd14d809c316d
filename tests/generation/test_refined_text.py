from typing import Any

import pytest

from jepalm.cli.refining import refining_of
from jepalm.config import HardwareConfig
from jepalm.errors import UsageError
from jepalm.generation.loading import TrainedModel, load_trained
from jepalm.generation.refine import Refining
from jepalm.generation.text import continue_text, next_source, read_prompt

CPU = HardwareConfig(device="cpu", precision="fp32", threads=1)


@pytest.fixture(scope="module")
def unmasking(train_tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    run = train_tiny(
        tmp_path_factory.mktemp("revealing"),
        data__name="windows",
        model__target_len=8,
        model__predictor__unmasked="true",
        objective__generation__weight=1,
        objective__length__kind="none",
        training__steps=2,
    )
    return load_trained(run, "last", CPU)


def test_passes_are_counted_over_all_passages(unmasking: TrainedModel):
    source = read_prompt(unmasking, "abcde")
    made = continue_text(unmasking, source, passages=3, temperature=1.0, refining=Refining(4))
    assert made.passes == 12
    assert len(made.text[0]) == 24
    assert continue_text(unmasking, source, passages=3).passes == 3


def test_the_seed_decides_a_refined_text(unmasking: TrainedModel):
    source = read_prompt(unmasking, "abcde")
    texts = [
        continue_text(unmasking, source, temperature=1.0, seed=seed, refining=Refining(4)).text
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_the_end_of_every_passage_but_the_last_is_discarded(unmasking: TrainedModel):
    source = read_prompt(unmasking, "abcde")
    whole = continue_text(unmasking, source, passages=3)
    made = continue_text(unmasking, source, passages=3, discard=0.25)
    assert len(made.text[0]) == 6 + 6 + 8
    assert made.text[0][:6] == whole.text[0][:6]
    assert made.passes == 3


def test_the_next_source_of_windows_is_the_last_of_source_and_passage(unmasking: TrainedModel):
    read = unmasking.tokenizer.encode("abcdeabcd")  # 9 tokens; the model reads 12
    assert unmasking.tokenizer.decode(next_source(unmasking, read, "edcbaedc")) == "abcd" + "edcbaedc"


def test_a_model_of_lines_discards_nothing(trained_run: Any):
    lines = load_trained(trained_run, "last", CPU)
    with pytest.raises(UsageError, match="only a JEPALM of windows can discard"):
        continue_text(lines, read_prompt(lines, "ab"), passages=2, discard=0.25)


def test_a_model_without_unmasked_positions_refuses_in_one_line(trained_run: Any):
    lines = load_trained(trained_run, "last", CPU)
    with pytest.raises(UsageError, match=r"^\S+ cannot refine: it was trained without unmasked positions"):
        continue_text(lines, read_prompt(lines, "ab"), refining=Refining(2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((4, "confidenc", None), "unknown order confidenc"),
        ((1, "random", None), "--order does nothing with one pass"),
        ((1, None, 0.5), "--entropy-bound does nothing with one pass"),
        ((4, "random", 0.5), "--entropy-bound goes with --order entropy"),
    ],
)
def test_flags_that_mean_nothing_are_refused(given: Any, message: str):
    with pytest.raises(UsageError, match=message):
        refining_of(*given)


def test_flags_become_how_a_passage_is_refined():
    assert refining_of(1, None, None) is None
    assert refining_of(8, None, None) == Refining(8, "random")
    assert refining_of(8, "entropy", 0.5) == Refining(8, "entropy", 0.5)
