"""What is timed when a model writes: as many tokens as asked, in as many passes as said."""

from dataclasses import replace

import pytest

from jepalm.config import HardwareConfig
from jepalm.data.batches import pad_rows
from jepalm.evaluation.speed.writing import (
    BATCHES,
    CHARACTERS,
    measure_writing,
    real_text,
    untrained_writer,
    writer_of,
)
from jepalm.generation.loading import load_trained
from jepalm.objective import CausalObjective

HARDWARE = HardwareConfig(device="cpu", precision="fp32", threads=1)


@pytest.fixture(scope="module")
def trained(trained_run):
    return load_trained(trained_run, hardware=HARDWARE)


@pytest.fixture(scope="module")
def text(trained, data_root):
    return real_text(trained.data(data_root), trained)


@pytest.fixture(scope="module")
def writers(trained, text):
    return writer_of(trained, text), untrained_writer(trained, text)


def predictor_calls(writer, prompts):
    """Target positions of each call of the predictor."""
    widths = []
    hook = writer.objective.model.predictor.register_forward_hook(
        lambda module, given, made: widths.append(given[0].mask.sum(1).tolist())
    )
    passes = writer.write(prompts)
    hook.remove()
    return passes, widths


def test_a_one_shot_model_takes_a_pass_a_passage(writers):
    model, _ = writers
    passes, widths = predictor_calls(model, pad_rows([[5, 6, 7], [8]], "cpu"))
    assert passes == 6  # 64 = 5 * 12 + 4
    assert widths == [[12, 12]] * 5 + [[4, 4]]


def test_a_causal_model_takes_a_pass_a_token(writers, monkeypatch):
    _, baseline = writers
    assert isinstance(baseline.objective, CausalObjective)
    hidden, read = baseline.objective.model.hidden, []
    monkeypatch.setattr(
        baseline.objective.model, "hidden", lambda ids, cache: read.append(ids.shape) or hidden(ids, cache)
    )
    assert baseline.write(pad_rows([[5, 6, 7], [8]], "cpu")) == CHARACTERS
    assert read == [(2, 3)] + [(2, 1)] * (CHARACTERS - 1)  # the prompt once, then a token a pass


@pytest.mark.parametrize(("characters", "tokens"), [(1.0, 64), (3.5, 19), (64.0, 1), (100.0, 1)])
def test_long_tokens_need_fewer_of_them(writers, characters, tokens):
    assert replace(writers[0], characters_a_token=characters).tokens == tokens


def test_a_character_is_a_token_of_a_character_tokenizer(writers, text):
    assert text.targets
    assert writers[0].characters_a_token == 1.0


def test_a_prompt_keeps_what_the_model_can_read(writers):
    model, _ = writers
    short = replace(model, longest_prompt=2)
    read = short.read(["abc", "e"])
    assert read.lengths.tolist() == [2, 1]
    assert read.ids[0].tolist() == model.tokenizer.encode("bc")


def test_both_are_timed_in_turns_at_every_batch_size(writers, text):
    model, baseline = writers
    speeds, written = measure_writing(model, baseline, text.prompts, 0.0)
    assert tuple(speed.batch for speed in speeds) == BATCHES
    assert {name: writer.passes for name, writer in written.items()} == {"model": 6, "baseline": 64}
    for speed in speeds:
        rounds = speed.rounds
        assert speed.ratio.median == pytest.approx(
            sorted(b / a for a, b in zip(rounds["model"], rounds["baseline"], strict=True))[1]
        )
        assert speed.characters_per_s["model"] == pytest.approx(
            speed.batch * CHARACTERS / sorted(rounds["model"])[1]
        )


def test_the_baseline_has_about_the_runs_parameters(trained, writers):
    layer = 4 * 16**2 + 3 * 16 * 32 + 2 * 16
    own, other = (sum(writer.objective.model.parameters_by_part().values()) for writer in writers)
    assert abs(own - other) <= layer / 2
    assert not any(module.training for module in writers[1].objective.modules())
