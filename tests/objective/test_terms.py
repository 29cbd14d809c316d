import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from jepalm.config import ModelConfig, ObjectiveConfig
from jepalm.evaluation.validation.jepalm import measure
from jepalm.objective.causal import CausalObjective
from jepalm.objective.terms import (
    IGNORE,
    cross_entropy,
    is_on,
    length_error,
    loss_terms,
    squared_distance,
    weighted,
)


def test_cross_entropy_is_nats_a_token_and_leaves_padding_out():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [1.0, 1e-9, 1e-9]]))
    labels = torch.tensor([0, 2, IGNORE])
    expected = -(math.log(0.5) + math.log(0.8)) / 2
    assert float(cross_entropy(logits, labels, 2)) == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_of_a_micro_batch_is_divided_by_the_tokens_of_the_whole_batch():
    logits, labels = torch.zeros(2, 4), torch.tensor([0, 3])
    assert float(cross_entropy(logits, labels, 8)) == pytest.approx(2 * math.log(4) / 8)


def test_squared_distance_is_summed_over_dimensions():
    predicted, target = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[3.0, -1.0], [0.0, 2.0]])
    assert squared_distance(predicted, target).tolist() == [13.0, 4.0]


@pytest.mark.parametrize("dim", [8, 256])
def test_predicting_zero_for_layernorm_targets_costs_dim(dim: int):
    targets = F.layer_norm(torch.randn(5, dim, dtype=torch.float64), (dim,), eps=0)
    assert squared_distance(torch.zeros(5, dim), targets).tolist() == pytest.approx([dim] * 5)


def test_squared_distance_of_halves_is_worked_out_in_float32():
    one = torch.full((1, 256), 1.0, dtype=torch.bfloat16)
    assert squared_distance(one, torch.zeros(1, 256)).dtype == torch.float32


def test_length_error_is_the_square_over_the_pairs_of_the_whole_batch():
    error = length_error(torch.tensor([10.0, 3.5]), torch.tensor([7, 4]), 4)
    assert float(error) == (9 + 0.25) / 4


def test_total_is_the_weighted_sum_and_terms_stay_unweighted():
    terms = {"embedding": torch.tensor(3.0), "length": torch.tensor(5.0)}
    losses = weighted(terms, {"embedding": 2.0, "length": 0.1, "generation": 9.0})
    assert float(losses.total) == pytest.approx(6.5)
    assert losses.terms == terms
    assert losses.weights == {"embedding": 2.0, "length": 0.1}


def names(family: str, **settings: Any) -> list[str]:
    config = ObjectiveConfig.model_validate(settings)
    return [term.name for term in loss_terms(family, config) if is_on(term, config)]


def test_terms_that_are_on_stand_in_the_order_of_forward():
    weights = {name: {"weight": 0.5} for name in ("generation", "intermediate_logits", "local", "kl")}
    assert names("jepalm") == ["reconstruction", "embedding", "length"]
    assert names("jepalm", **weights, length={"kind": "none"}, regularizer={"kind": "sigreg"}) == [
        "reconstruction", "embedding", "generation", "intermediate_logits", "local", "kl", "regularizer"
    ]  # fmt: skip
    assert names("causal") == ["next_token"]
    assert names("causal", latent={"weight": 1}, tube={"weight": 1}) == ["next_token", "latent", "tube"]


OF_TOKENS = {"reconstruction", "generation", "intermediate_logits", "local", "encoder_lm", "decoder_lm"}


@pytest.mark.parametrize(
    ("family", "settings", "expected"),
    [
        ("jepalm", {}, OF_TOKENS),
        ("jepalm", {"length": {"kind": "classification"}}, OF_TOKENS | {"length"}),
        ("causal", {}, {"next_token"}),
        ("causal", {"latent": {"distance": "infonce"}}, {"next_token", "latent"}),
    ],
)
def test_cross_entropies_are_in_nats_as_configured(family: str, settings: dict[str, Any], expected: set[str]):
    terms = loss_terms(family, ObjectiveConfig.model_validate(settings))
    assert {term.name for term in terms if term.nats} == expected


def test_infonce_counts_as_a_cross_entropy_in_uncertainty_weighting():
    latent = {"weight": 1.0, "distance": "infonce"}
    objective = ObjectiveConfig.model_validate({"weighting": "uncertainty", "latent": latent})
    model = ModelConfig(family="causal", dim=8, n_heads=1)
    assert CausalObjective(model, objective, 10).weighting.factors == {"next_token": 1.0, "latent": 1.0}


@pytest.mark.parametrize("distance", ["mse", "cosine"])
def test_validation_writes_every_terms_value_where_its_record_says(
    distance: str, random_objective: Any, make_batch: Any
):
    settings = {
        "model__predictor__intermediate_logits": "true",
        "objective__intermediate_logits__weight": 1.0,
        "objective__generation__weight": 1.0,
        "objective__kl__weight": 0.1,
        "objective__regularizer__kind": "vicreg",
        "objective__embedding__distance": distance,
    }
    for length in ("mse", "classification"):
        objective = random_objective(objective__length__kind=length, **settings).eval()
        with torch.no_grad():
            measured = measure(objective, [make_batch()])
        assert [term.validation for term in objective.terms if term.validation not in measured] == []
