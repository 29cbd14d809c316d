"""Geometry of embeddings against numbers worked out by hand and plain loops."""

import math

import pytest
import torch

from jepalm.evaluation.validation.geometry import (
    paired_minus_unpaired_cosine,
    retrieval_at_1,
    retrieval_chance,
    tolerance,
)

E1, E2 = [1.0, 0.0], [0.0, 1.0]


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


def test_orthogonal_pairs_are_one_cosine_nearer_than_strangers():
    rows = torch.tensor([E1, E2])
    assert paired_minus_unpaired_cosine(rows, 3 * rows).tolist() == pytest.approx([1, 1])


def test_queries_that_all_agree_gain_nothing():
    queries, candidates = torch.tensor([E1, E1, E1]), torch.tensor([E1, E2, [1.0, 1.0]])
    assert float(paired_minus_unpaired_cosine(queries, candidates).mean()) == pytest.approx(0)


def test_paired_minus_unpaired_is_that_of_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    queries, candidates = torch.randn(2, 7, 5, generator=generator).double()
    expected = [
        cosine(queries[i], candidates[i])
        - sum(cosine(queries[i], candidates[j]) for j in range(7) if j != i) / 6
        for i in range(7)
    ]
    assert paired_minus_unpaired_cosine(queries, candidates).tolist() == pytest.approx(expected)


def test_retrieval_looks_at_direction_and_not_at_length():
    candidates = torch.tensor([[0.1, 0.0], [0.0, 9.0]])
    assert retrieval_at_1(torch.tensor([[5.0, 1.0], [0.1, 0.2]]), candidates, [0, 1]).tolist() == [True, True]
    assert retrieval_at_1(torch.tensor([E2, E2]), candidates, [0, 1]).tolist() == [False, True]


def test_retrieval_of_the_same_text_from_another_pair_is_right():
    candidates = torch.tensor([E1, E2, E2])
    assert retrieval_at_1(torch.tensor([E1, E2, E2]), candidates, [0, 1, 1]).tolist() == [True] * 3
    assert retrieval_at_1(torch.tensor([E1, E2, E2]), candidates, [0, 1, 2]).tolist() == [True, True, False]


def test_retrieval_of_many_queries_is_cut_into_pieces():
    rows = torch.eye(1500)
    assert retrieval_at_1(rows, rows, range(1500)).all()


def test_chance_counts_equal_texts():
    assert retrieval_chance([0, 1, 2, 3]) == 1 / 4
    assert retrieval_chance([0, 0, 1, 1]) == 1 / 2


@pytest.mark.parametrize("edge", [0.003, 0.21, 1.0, 17.0])
def test_tolerance_finds_where_accuracy_falls(edge):
    assert tolerance(lambda sigma: 1.0 if sigma < edge else 0.5) == pytest.approx(edge, rel=0.01)


def test_tolerance_is_where_a_slope_crosses_99_percent():
    assert tolerance(lambda sigma: 1 - sigma / 10) == pytest.approx(0.1, rel=0.01)


def test_tolerance_of_a_decoder_that_errs_without_noise_is_nothing():
    assert tolerance(lambda sigma: 0.9) == 0


def test_tolerance_of_a_decoder_that_never_errs_has_no_end():
    assert math.isinf(tolerance(lambda sigma: 1.0))


def test_tolerance_ends_where_any_noise_is_too_much():
    assert tolerance(lambda sigma: float(sigma == 0)) < 1e-5
