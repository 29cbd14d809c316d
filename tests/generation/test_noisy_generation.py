"""Generation by a predictor that takes noise: what is drawn is the noise, and tokens follow from it."""

from typing import Any

import pytest
import torch

from jepalm.config import HardwareConfig
from jepalm.generation.loading import load_trained
from jepalm.generation.one_pass import generate
from jepalm.generation.refine import Refining
from jepalm.generation.text import continue_texts, read_prompt
from jepalm.model.conditioning import Conditioning
from jepalm.model.noise import GaussianNoise, draw_gaussian

FORMS = pytest.mark.parametrize("packing", [True, False])
NOISY: dict[str, Any] = {
    "model__predictor__noise": "gaussian",
    "model__predictor__noise_dim": 5,
    "objective__embedding__distance": "energy",
    "objective__embedding__samples": 2,
    "objective__length__kind": "none",
}


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@FORMS
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_temperature_scales_the_noise_and_the_likeliest_tokens_are_taken(
    random_objective: Any, make_batch: Any, packing: bool, temperature: float
):
    objective = random_objective(packing=packing, **NOISY).eval()
    batch = make_batch(targets=(12, 12, 12, 12))
    passage = generate(objective, batch.source, temperature=temperature, generator=seeded())
    source, layout = objective.encode_source(batch.source)
    target = objective.layout(batch.target)
    drawn = draw_gaussian(target, 5, generator=seeded())
    noise = GaussianNoise(temperature * drawn.places, temperature * drawn.text)
    predicted = objective.predict(source, layout, target, Conditioning(noise=noise))
    logits = target.pad(objective.model.decoder(predicted, target))
    assert torch.equal(passage.ids, logits[..., 3:].argmax(-1) + 3)  # never a special token


@FORMS
def test_each_pass_of_a_refinement_draws_noise_of_its_own(
    random_objective: Any, make_batch: Any, monkeypatch: pytest.MonkeyPatch, packing: bool
):
    objective = random_objective(packing=packing, model__predictor__unmasked="true", **NOISY).eval()
    drawn: list[GaussianNoise] = []
    draw = objective.draw_noise
    monkeypatch.setattr(objective, "draw_noise", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    settings: dict[str, Any] = {"temperature": 1.0, "writing": Refining(3)}
    found = [
        generate(objective, make_batch().source, generator=seeded(seed), **settings).ids for seed in (1, 1, 2)
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert len(drawn) == 9
    assert not torch.equal(drawn[0].text, drawn[1].text)
    assert torch.equal(drawn[0].places, drawn[3].places)


def test_a_trained_run_writes_several_texts_after_one_prompt_as_the_seed_says(train_tiny: Any, tmp_path: Any):
    run = train_tiny(tmp_path, data__name="windows", training__steps=2, **NOISY)
    trained = load_trained(run, "last", HardwareConfig(device="cpu", precision="fp32", threads=1))
    with torch.no_grad():  # two steps taught it to use the noise a little
        trained.objective.model.predictor.noise.places.weight.mul_(1e4)
    source = read_prompt(trained, "abcde")
    texts = [
        continue_texts(trained, [source] * 3, passages=2, temperature=1.0, seed=seed).text
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert len(set(texts[0])) == 3
    plain = continue_texts(trained, [source] * 3, seed=1).text
    assert len(set(plain)) == 1
