from typing import Any

import pytest
import torch

from jepalm.generation.one_pass import generate

FORMS = pytest.mark.parametrize("packing", [True, False])


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Count the calls of a module's forward."""

    def count(module: torch.nn.Module) -> list[int]:
        calls: list[int] = []
        forward = module.forward
        monkeypatch.setattr(module, "forward", lambda *args: (calls.append(1), forward(*args))[1])
        return calls

    return count


@FORMS
def test_a_passage_is_one_pass_of_encoder_predictor_and_decoder(
    random_objective: Any, make_batch: Any, counted: Any, packing: bool
):
    objective = random_objective(packing=packing)
    parts = [
        counted(part)
        for part in (objective.model.encoder, objective.model.predictor, objective.model.decoder)
    ]
    generate(objective, make_batch().source, length=7)
    assert [len(calls) for calls in parts] == [1, 1, 1]


@FORMS
def test_at_temperature_zero_each_token_is_the_decoders_most_likely(
    random_objective: Any, make_batch: Any, packing: bool
):
    objective, batch = random_objective(packing=packing), make_batch((4, 9), (5, 5))
    passage = generate(objective, batch.source, length=5)
    views = objective.encode_and_predict(batch)
    logits = views.target_layout.pad(objective.model.decoder(views.predicted, views.target_layout))
    assert torch.equal(passage.ids, logits[..., 3:].argmax(-1) + 3)  # never a special token
    assert torch.allclose(passage.embeddings, views.target_layout.pad(views.predicted))


@pytest.mark.parametrize(
    ("predicted", "expected"), [([-3.0, 0.4, 2.6], [1, 1, 3]), ([99.0, 12.4, 11.6], [12, 12, 12])]
)
def test_the_heads_lengths_are_rounded_and_clamped_to_the_model(
    random_objective: Any,
    make_batch: Any,
    monkeypatch: pytest.MonkeyPatch,
    predicted: list[float],
    expected: Any,
):
    objective = random_objective(packing=True)
    monkeypatch.setattr(objective, "_length_output", lambda *_: torch.tensor(predicted))
    passage = generate(objective, make_batch((2, 3, 4), (1, 1, 1)).source)
    assert passage.lengths.tolist() == expected
    assert [len(row) for row in passage.rows()] == expected


@FORMS
def test_beyond_a_texts_length_ids_and_embeddings_are_zero(
    random_objective: Any, make_batch: Any, monkeypatch: pytest.MonkeyPatch, packing: bool
):
    objective = random_objective(packing=packing)
    monkeypatch.setattr(objective, "_length_output", lambda *_: torch.tensor([2.0, 5.0]))
    passage = generate(objective, make_batch((2, 3), (1, 1)).source)
    assert passage.ids[0, 2:].tolist() == [0, 0, 0]
    assert not passage.embeddings[0, 2:].any()
    assert passage.embeddings[0, :2].all()


@pytest.mark.parametrize(("asked", "expected"), [(None, 12), (3, 3), (50, 12)])
def test_without_a_length_head_the_length_is_that_asked_or_the_longest(
    random_objective: Any, make_batch: Any, asked: int | None, expected: int
):
    objective = random_objective(objective__length__kind="none")
    passage = generate(objective, make_batch((2,), (1,)).source, length=asked)
    assert passage.lengths.tolist() == [expected]


@FORMS
def test_draws_follow_the_generators_seed(random_objective: Any, make_batch: Any, packing: bool):
    objective, source = random_objective(packing=packing), make_batch().source

    def drawn(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return generate(objective, source, length=12, temperature=2.0, generator=generator).rows()

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_low_temperature_draws_the_most_likely(random_objective: Any, make_batch: Any):
    objective, source = random_objective(), make_batch().source
    cold = generate(
        objective, source, length=12, temperature=1e-6, generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(cold.ids, generate(objective, source, length=12).ids)
