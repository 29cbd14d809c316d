"""Text that noise decides: of a predictor that reads it, and of one that does not."""

from typing import Any

import pytest
import torch

from jepalm.evaluation.validation.coupling import Matches
from jepalm.evaluation.validation.jepalm import measure
from jepalm.generation.one_pass import generate
from jepalm.generation.refine import Refining
from jepalm.model.conditioning import Conditioning
from jepalm.model.noise import draw_gumbel

READS = {
    "model__predictor__intermediate_logits": "true",
    "model__predictor__noise": "gumbel",
    "objective__coupling__teacher": "any",
    "objective__length__kind": "none",
}
PACKED = pytest.mark.parametrize("packing", [True, False])


def noise_of(n: int = 4, width: int = 12, seed: int = 7) -> torch.Tensor:
    return draw_gumbel((n, width, 11), generator=torch.Generator().manual_seed(seed))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@PACKED
def test_given_noise_decides_the_text_of_a_predictor_that_reads_it(
    random_objective: Any, make_batch: Any, packing: bool
) -> None:
    objective, source = random_objective(packing=packing, **READS).eval(), make_batch().source
    noise = noise_of()
    passage = generate(objective, source, length=9, temperature=1.0, noise=noise)
    read, layout = objective.encode_source(source)
    target = objective.lay_out_sources(torch.full((4,), 9), 9)
    target = type(target).of(torch.full((4,), 9), 9, packed=packing)
    with torch.no_grad():
        predicted = objective.predict(read, layout, target, Conditioning(noise=noise[:, :9]))
        logits = target.pad(objective.model.decoder(predicted, target))
    assert torch.equal(passage.ids, logits[..., 3:].argmax(-1) + 3)
    other = generate(objective, source, length=9, temperature=1.0, noise=noise_of(seed=8))
    assert not torch.equal(passage.ids, other.ids)


@PACKED
def test_given_noise_is_added_to_the_log_probabilities_of_one_that_reads_none(
    random_objective: Any, make_batch: Any, packing: bool
) -> None:
    objective = random_objective(packing=packing, objective__length__kind="none").eval()
    source = make_batch().source
    likeliest = generate(objective, source)
    noise = torch.zeros(4, 12, 11)
    assert torch.equal(generate(objective, source, temperature=1.0, noise=noise).ids, likeliest.ids)
    noise[1, 2, 5] = 1e4
    passage = generate(objective, source, temperature=0.5, noise=noise)
    assert passage.ids[1, 2] == 5
    others = torch.ones(4, 12, dtype=torch.bool)
    others[1, 2] = False
    assert torch.equal(passage.ids[others], likeliest.ids[others])
    assert torch.equal(generate(objective, source, temperature=0.0, noise=noise).ids, likeliest.ids)


def test_noise_is_drawn_by_the_generator_and_scaled_by_the_temperature(
    random_objective: Any, make_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, source = random_objective(**READS).eval(), make_batch().source
    seen: list[torch.Tensor | None] = []
    predict = type(objective).predict

    def watched(self: Any, *args: Any) -> torch.Tensor:
        seen.append(args[3].noise)
        return predict(self, *args)

    monkeypatch.setattr(type(objective), "predict", watched)
    one, same, other = (
        generate(objective, source, temperature=0.5, generator=seeded(s)).ids for s in (3, 3, 4)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert seen[0] is not None
    assert torch.equal(seen[0], 0.5 * draw_gumbel((4, 12, 11), generator=seeded(3)))
    generate(objective, source)
    assert seen[-1] is None  # temperature 0: no noise


def test_packed_is_padded(random_objective: Any, make_batch: Any) -> None:
    one, other = (
        generate(
            random_objective(packing=packing, **READS).eval(),
            make_batch().source,
            temperature=1,
            length=8,
            noise=noise_of(),
        )
        for packing in (True, False)
    )
    assert torch.equal(one.ids, other.ids)
    assert torch.allclose(one.embeddings, other.embeddings, atol=1e-5)


def test_refinement_keeps_the_noise_and_what_is_decided(random_objective: Any, make_batch: Any) -> None:
    objective = random_objective(model__predictor__unmasked="true", **READS).eval()
    source = make_batch().source
    settings: dict[str, Any] = {"temperature": 1.0, "noise": noise_of()}
    one = generate(objective, source, writing=Refining(1), **settings)
    assert torch.equal(one.ids, generate(objective, source, **settings).ids)
    in_order = generate(objective, source, writing=Refining(4, "prefix"), **settings)
    assert in_order.passes == 4
    assert torch.equal(in_order.ids[:, :3], one.ids[:, :3])  # decided in the first of four passes
    again = generate(objective, source, writing=Refining(4, "prefix"), **settings)
    assert torch.equal(again.ids, in_order.ids)


def test_noise_that_is_drawn_for_a_refinement_is_that_of_all_its_passes(
    random_objective: Any, make_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = random_objective(model__predictor__unmasked="true", **READS).eval()
    seen: list[Conditioning] = []
    predict = objective.predict
    monkeypatch.setattr(objective, "predict", lambda *given: seen.append(given[3]) or predict(*given))
    settings: dict[str, Any] = {"temperature": 1.0, "writing": Refining(3, "prefix")}
    generate(objective, make_batch().source, generator=seeded(1), **settings)
    assert len(seen) == 3
    assert seen[0].noise is not None
    assert all(conditioning.noise is seen[0].noise for conditioning in seen)


class Noted:
    """A coupling whose noise is given."""

    def __init__(self, noise: torch.Tensor) -> None:
        self.given = noise

    def noise(self, batch: Any, generator: torch.Generator) -> torch.Tensor:
        return self.given


def test_matches_are_counted_by_position_and_to_the_first_wrong_token(
    random_objective: Any, make_batch: Any
) -> None:
    objective, batch = random_objective(**READS), make_batch((5, 5), (6, 6))
    objective.coupling = Noted(torch.zeros(2, 6, 11))
    matches = Matches(objective)
    right = torch.tensor([[1, 1, 0, 1, 1, 1], [1, 0, 0, 0, 0, 1]], dtype=torch.bool)
    written = torch.where(right, batch.target.ids, batch.target.ids % 8 + 3)
    matches.add(torch.nn.functional.one_hot(written, 11).float().flatten(0, 1), batch, matches.noise(batch))
    assert matches.figures() == {
        "validation/match_at_1": 1.0,
        "validation/match_at_2": 0.5,
        "validation/match_at_4": 0.5,
        "validation/match_at_6": 1.0,
        "validation/match_prefix": 1.5,
    }


def test_a_predictor_that_reads_no_noise_is_matched_with_it_added_and_without(
    random_objective: Any, make_batch: Any
) -> None:
    objective, batch = random_objective(objective__length__kind="none"), make_batch((5,), (2,))
    noise = torch.zeros(1, 2, 11)
    noise[0, 1, batch.target.ids[0, 1]] = 50
    objective.coupling = Noted(noise)
    matches = Matches(objective)
    logits = torch.zeros(2, 11)
    logits[0, batch.target.ids[0, 0]] = 1
    matches.add(logits, batch, matches.noise(batch))
    found = matches.figures()
    assert found["validation/match_prefix"] == 2
    assert found["validation/likeliest_match_prefix"] == 1


def test_validation_measures_intermediate_logits_and_matches_under_the_noise_of_the_text(
    random_objective: Any, make_batch: Any
) -> None:
    objective = random_objective(objective__intermediate_logits__weight=2.0, **READS).eval()
    batch = make_batch((5, 5), (6, 6))
    objective.coupling = Noted(noise_of(2, 6))
    with torch.no_grad():
        found = measure(objective, [batch])
        views = objective.encode_and_predict(batch, noise=noise_of(2, 6))
        logits = objective.model.decoder(views.predicted, views.target_layout)
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.target.ids.flatten())
    assert found["validation/generation_ce"] == pytest.approx(nats.item(), rel=1e-5)
    intermediate_logits = [
        torch.nn.functional.cross_entropy(intermediate.flatten(0, 1), batch.target.ids.flatten()).item()
        for intermediate in views.intermediate_logits
    ]
    assert found["validation/intermediate_logits_ce"] == pytest.approx(
        sum(intermediate_logits) / len(intermediate_logits), rel=1e-5
    )
    terms = {
        name: found[f"validation/{name}"] for name in ("embedding", "reconstruction_ce", "generation_ce")
    }
    weights = objective.counted
    loss = terms["embedding"] * weights["embedding"] + terms["reconstruction_ce"] * weights["reconstruction"]
    loss += 2 * found["validation/intermediate_logits_ce"]
    assert found["validation/loss"] == pytest.approx(loss, rel=1e-5)
    assert 0 <= found["validation/match_prefix"] <= 6
