"""What is timed when a model writes: as many tokens as asked, in as many passes as said."""

from dataclasses import replace

import pytest

from jepalm.config import HardwareConfig
from jepalm.evaluation.speed.writing import (
    BATCHES,
    CHARACTERS,
    RealText,
    measure_writing,
    real_text,
    timed_model,
    untrained_counterpart,
)
from jepalm.generation.loading import load_trained
from jepalm.generation.writer import Prompt
from jepalm.objective import CausalObjective

PROMPTS = [Prompt([5, 6, 7]), Prompt([8])]
HARDWARE = HardwareConfig(device="cpu", precision="fp32", threads=1)


@pytest.fixture(scope="module")
def trained(trained_run):
    return load_trained(trained_run, hardware=HARDWARE)


@pytest.fixture(scope="module")
def text(trained, data_root):
    return real_text(trained.data(data_root), trained)


@pytest.fixture(scope="module")
def models(trained, text):
    return timed_model(trained, text), untrained_counterpart(trained, text)


def predictor_calls(model, prompts):
    """Target positions of each call of the predictor."""
    widths = []
    hook = model.writer.objective.model.predictor.register_forward_hook(
        lambda module, given, made: widths.append(given[0].mask.sum(1).tolist())
    )
    nfe = model.write(prompts)
    hook.remove()
    return nfe, widths


def test_a_one_shot_model_takes_a_pass_a_passage(models):
    model, _ = models
    nfe, widths = predictor_calls(model, PROMPTS)
    assert nfe == 6  # 64 = 5 * 12 + 4
    assert widths == [[12, 12]] * 5 + [[4, 4]]


def test_a_causal_model_takes_a_pass_a_token(models, monkeypatch):
    _, baseline = models
    objective, read = baseline.writer.objective, []
    assert isinstance(objective, CausalObjective)
    hidden = objective.model.hidden
    monkeypatch.setattr(
        objective.model, "hidden", lambda ids, cache: read.append(ids.shape) or hidden(ids, cache)
    )
    assert baseline.write(PROMPTS) == CHARACTERS
    assert read == [(2, 3)] + [(2, 1)] * (CHARACTERS - 1)  # the prompt once, then a token a pass


@pytest.mark.parametrize(("characters", "tokens"), [(1.0, 64), (3.5, 19), (64.0, 1), (100.0, 1)])
def test_long_tokens_need_fewer_of_them(trained, monkeypatch, characters, tokens):
    monkeypatch.setattr(RealText, "characters_per_token", lambda text, tokenizer: characters)
    found = timed_model(trained, RealText([], ""))
    assert found.description.tokens == found.writer.length == tokens


def test_a_character_is_a_token_of_a_character_tokenizer(models, text):
    assert text.targets
    assert models[0].description.characters_per_token == 1.0


def test_a_prompt_keeps_what_the_model_can_read(models):
    model, _ = models
    short = replace(model, longest_prompt=2)
    assert short.read(["abc", "e"]) == [Prompt(model.tokenizer.encode(text)) for text in ("bc", "e")]


def test_both_are_timed_in_turns_at_every_batch_size(models, text):
    model, baseline = models
    speeds, nfe = measure_writing(model, baseline, text.prompts, 0.0)
    assert tuple(speed.batch for speed in speeds) == BATCHES
    assert nfe == {"model": 6, "baseline": 64}
    for speed in speeds:
        rounds = speed.rounds
        assert speed.ratio.median == pytest.approx(
            sorted(b / a for a, b in zip(rounds["model"], rounds["baseline"], strict=True))[1]
        )
        assert speed.characters_per_s["model"] == pytest.approx(
            speed.batch * CHARACTERS / sorted(rounds["model"])[1]
        )


def test_the_baseline_has_about_the_runs_parameters(trained, models):
    layer = 4 * 16**2 + 3 * 16 * 32 + 2 * 16
    own, other = (model.description.parameters for model in models)
    assert abs(own - other) <= layer / 2
    assert not any(module.training for module in models[1].writer.objective.modules())
