import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from jepalm.config import HardwareConfig
from jepalm.errors import JepalmError, UsageError
from jepalm.generation.loading import TrainedModel, load_trained
from jepalm.generation.text import continue_text, pad_rows, read_prompt

CPU = HardwareConfig(device="cpu", precision="fp32", threads=1)


@pytest.fixture(scope="module")
def lines(trained_run: Any) -> TrainedModel:
    return load_trained(trained_run, "last", CPU)


@pytest.fixture(scope="module")
def windows(train_tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    run = train_tiny(tmp_path_factory.mktemp("windows"), data__name="windows", training__steps=1)
    return load_trained(run, "last", CPU)


def test_the_model_is_loaded_from_the_run_folder_alone(lines: TrainedModel, trained_run: Any):
    from safetensors.torch import load_file

    weights = load_file(trained_run.checkpoints / "step-00000008" / "model.safetensors")
    assert (lines.pairing, lines.checkpoint.step, lines.objective.training) == ("lines", 8, False)
    assert all(torch.equal(value, weights[name]) for name, value in lines.objective.state_dict().items())


def test_the_data_of_a_run_is_checked_against_its_manifest(lines: TrainedModel, data_root: Path):
    assert lines.data(data_root).path == data_root / "lines"
    other = dataclasses.replace(
        lines,
        config=lines.config.model_copy(
            update={"data": lines.config.data.model_copy(update={"name": "windows"})}
        ),
    )
    with pytest.raises(JepalmError, match="was changed since"):
        other.data(data_root)


@pytest.mark.parametrize(
    ("prompt", "read", "notes"),
    [
        ("ab", "ab\n", 0),
        ("ab\n", "ab\n", 0),
        ("", "\n", 0),
        ("\n", "\n", 0),
        ("ab\ncd", "cd\n", 1),
        ("ab\ncd\n", "cd\n", 1),
        ("ab\n\n", "\n", 1),
    ],
)
def test_a_model_of_lines_reads_the_last_line_with_its_end(
    lines: TrainedModel, prompt: str, read: str, notes: int
):
    source = read_prompt(lines, prompt)
    assert lines.tokenizer.decode(source.ids) == read
    assert len(source.notes) == notes


def test_a_long_prompt_keeps_its_last_tokens_and_says_so(lines: TrainedModel):
    source = read_prompt(lines, "a" * 20 + "bcd")
    assert lines.tokenizer.decode(source.ids) == "a" * 8 + "bcd\n"
    assert source.notes == ["the prompt has 24 tokens: the model reads the last 12"]


def test_unknown_characters_are_named_with_their_code_points(lines: TrainedModel):
    with pytest.raises(UsageError, match=r"outside the model's alphabet: .*'é' \(U\+00E9\)") as caught:
        read_prompt(lines, "aé☃zy")
    assert "and 1 more" in str(caught.value)


def test_a_model_of_windows_needs_a_prompt_and_reads_it_as_it_is(windows: TrainedModel):
    with pytest.raises(UsageError, match="the prompt is empty"):
        read_prompt(windows, "")
    assert windows.tokenizer.decode(read_prompt(windows, "a\nb").ids) == "a\nb"


@pytest.mark.parametrize("length", [0, 13, -1])
def test_a_length_the_model_cannot_write_names_the_range(lines: TrainedModel, length: int):
    with pytest.raises(UsageError, match="this model writes 1 to 12 tokens a pass"):
        continue_text(lines, read_prompt(lines, "ab"), length=length)


def test_the_length_asked_for_is_that_of_every_passage(lines: TrainedModel):
    made = continue_text(lines, read_prompt(lines, "ab"), passages=3, length=5)
    assert [passage.lengths.tolist() for passage in made.passages] == [[5], [5], [5]]
    assert made.passes == 3


@pytest.mark.parametrize("model", ["lines", "windows"])
def test_each_passages_text_is_the_next_ones_source(model: str, request: pytest.FixtureRequest):
    trained = request.getfixturevalue(model)
    both = continue_text(trained, read_prompt(trained, "ab"), passages=2, length=6)
    first = continue_text(trained, read_prompt(trained, "ab"), length=6)
    text = (
        first.text[0] if model == "lines" else "ab" + first.text[0]
    )  # of windows as much as the model reads
    second = continue_text(trained, read_prompt(trained, text), length=6)
    assert both.text[0] == first.text[0] + second.text[0]
    assert torch.equal(both.passages[1].embeddings, second.passages[0].embeddings)


def test_samples_differ_and_the_same_seed_gives_the_same(lines: TrainedModel):
    source = read_prompt(lines, "ab")
    drawn = [
        continue_text(lines, source, samples=3, length=12, temperature=1.0, seed=seed).text
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 3


def test_rows_are_padded_on_the_right_with_zeros():
    tokens = pad_rows([[5, 6, 7], [8]], torch.device("cpu"))
    assert tokens.ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert tokens.lengths.tolist() == [3, 1]
