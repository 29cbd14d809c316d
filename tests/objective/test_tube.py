"""Semantic Tube Prediction: the formula, the triples, and what counts."""

import itertools
import math
from collections import Counter

import pytest
import torch

from jepalm.objective.tube import draw_triples, tube_cosine


def test_cosine_of_the_two_steps_by_hand():
    hidden = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [9.0, 9.0], [2.0, 1.0]]])
    # h_r - h_s = (1, 0), h_t - h_r = (1, 1)
    assert float(tube_cosine(hidden, torch.tensor([[0, 1, 3]]))) == pytest.approx(1 / math.sqrt(2))
    straight = torch.tensor([[[0.0, 1.0], [2.0, 2.0], [6.0, 4.0]]])
    assert float(tube_cosine(straight, torch.tensor([[0, 1, 2]]))) == pytest.approx(1)
    back = torch.tensor([[[0.0, 1.0], [2.0, 2.0], [0.0, 1.0]]])
    assert float(tube_cosine(back, torch.tensor([[0, 1, 2]]))) == pytest.approx(-1)


def test_every_triple_in_order_is_as_likely():
    n = 6000
    generator = torch.Generator().manual_seed(0)
    drawn = draw_triples(torch.full((n,), 5), generator)
    counts = Counter(map(tuple, drawn.tolist()))
    assert set(counts) == set(itertools.combinations(range(5), 3))
    expected = n / 10
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 27.9  # 9 degrees of freedom, 0.999


def test_the_shortest_text_has_one_triple_and_shorter_ones_stay_inside():
    drawn = draw_triples(torch.tensor([3, 2, 1]), torch.Generator().manual_seed(0))
    assert drawn[0].tolist() == [0, 1, 2]
    assert bool((drawn >= 0).all())
    assert bool((drawn[1:] < torch.tensor([[2], [1]])).all())
