"""Where gradients flow: in the reference arrangement the encoder learns by reconstruction alone."""

from typing import Any

import pytest
import torch

from jepalm.training.gradients import gradient_norm, gradients_by_term, norms_and_cosines

OPEN = {
    "embedding": {"objective__embedding__detach_source": False},
    "length": {"objective__length__detach_source": False},
}


@pytest.fixture
def norms(random_objective: Any, make_batch: Any) -> Any:
    def of(part: str = "encoder", **changed: object) -> dict[str, float]:
        objective = random_objective(packing=True, **changed)
        parameters = list(getattr(objective.model, part).parameters())
        return norms_and_cosines(gradients_by_term(objective(make_batch()), parameters))[0]

    return of


def test_by_default_only_reconstruction_reaches_the_encoder(norms: Any):
    found = norms()
    assert found["embedding"] == found["length"] == 0.0
    assert found["reconstruction"] > 0


@pytest.mark.parametrize("term", OPEN)
def test_without_detach_source_a_term_reaches_the_encoder_and_the_other_does_not(norms: Any, term: str):
    found = norms(**OPEN[term])
    other = {"embedding": "length", "length": "embedding"}[term]
    assert found[term] > 0
    assert found[other] == 0.0


def test_without_detach_target_the_embedding_term_reaches_the_encoder(norms: Any):
    assert norms(objective__embedding__detach_target=False)["embedding"] > 0


def test_by_default_the_generation_term_does_not_reach_the_encoder(norms: Any):
    assert norms(objective__generation__weight=1)["generation"] == 0.0


def test_reconstruction_does_not_reach_the_predictor(norms: Any):
    found = norms("predictor")
    assert found["reconstruction"] == 0.0
    assert found["embedding"] > 0


def test_norm_of_a_term_grows_with_its_weight(norms: Any):
    once, twice = norms("predictor"), norms("predictor", objective__embedding__weight=2)
    assert twice["embedding"] == pytest.approx(2 * once["embedding"], rel=1e-5)


def test_gradient_norm_is_euclidean_over_all_parameters_that_have_one():
    module = torch.nn.ParameterList([torch.zeros(1), torch.zeros(2), torch.zeros(3)])
    module[0].grad, module[1].grad = torch.tensor([3.0]), torch.tensor([0.0, 4.0])
    assert float(gradient_norm(module)) == 5.0
