import math

import pytest
import torch
import torch.nn.functional as F

from jepalm.objective.terms import IGNORE, cross_entropy, length_error, squared_distance, weighted


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
