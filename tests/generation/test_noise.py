"""Gumbel noise: a pure function of where it stands, of the right distribution."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from jepalm.generation.noise import AHEAD, GumbelNoise, gumbel


def test_any_part_is_the_same_whatever_was_drawn_before():
    whole = torch.from_numpy(gumbel(7, 3, 0, 200, 10))
    fresh = GumbelNoise(7, 10)
    assert torch.equal(fresh.at([3], [150], 9)[0], whole[150:159])
    assert torch.equal(fresh.at([3], [0], 2)[0], whole[:2])  # going back
    for start in (0, 1, 5, AHEAD - 1, AHEAD, 130):
        assert torch.equal(fresh.at([3], [start], 3)[0], whole[start : start + 3])
    assert torch.equal(fresh.at([3], [2], 2 * AHEAD + 5)[0], whole[2 : 2 * AHEAD + 7])


def test_texts_of_a_batch_have_their_own():
    together = GumbelNoise(0, 6).at([0, 1, 5], [4, 0, 9], 2)
    for row, (text, start) in enumerate([(0, 4), (1, 0), (5, 9)]):
        np.testing.assert_array_equal(together[row], gumbel(0, text, start, 2, 6))
    assert torch.equal(GumbelNoise(0, 6, first=5).at([0], [9], 2)[0], together[2])


def test_seed_text_and_position_all_count():
    parts = [gumbel(0, 0, 0, 2, 5), gumbel(1, 0, 0, 2, 5), gumbel(0, 1, 0, 2, 5), gumbel(0, 0, 2, 2, 5)]
    assert len({part.tobytes() for part in parts}) == 4


@pytest.mark.parametrize("vocab_size", [4, 7])
def test_it_is_standard_gumbel_and_independent(vocab_size):
    drawn = np.concatenate([gumbel(0, text, 0, 500, vocab_size) for text in range(8)]).astype(np.float64)
    assert stats.kstest(drawn.ravel(), "gumbel_r").pvalue > 0.01
    assert abs(np.corrcoef(drawn.T) - np.eye(vocab_size)).max() < 0.06
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.06


def test_its_argmax_with_log_probabilities_is_a_draw():
    probabilities = torch.tensor([0.6, 0.3, 0.1])
    drawn = (probabilities.log() + GumbelNoise(0, 3).at(range(200), [0] * 200, 100)).argmax(-1).flatten()
    shares = torch.bincount(drawn, minlength=3) / 20_000
    bound = 4 * math.sqrt(0.25 / 20_000)
    torch.testing.assert_close(shares, probabilities, rtol=0, atol=bound)
