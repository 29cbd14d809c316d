"""The Witten-Bell n-gram model as a writer."""

import math
from collections import Counter

import numpy as np
import pytest

from jepalm.evaluation.text.ngram import NGramWriter
from jepalm.generation.writer import Prompt

A, B, C = 0, 1, 2


def test_draws_have_the_model_s_probabilities():
    model = NGramWriter.fit(np.array([A, B, A, C, A, A, B, C, A, B]), vocab_size=3, order=3)
    n = 40_000
    drawn = model.write([Prompt([C, A])] * n, lengths=[2] * n, seed=0).ids
    seen = Counter(map(tuple, drawn))
    for pair in [(x, y) for x in range(3) for y in range(3)]:
        expected = math.exp(-model.nll([[C, A]], [list(pair)])[0].sum())
        assert seen[pair] / n == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / n))


def test_draws_are_decided_by_the_seed_and_have_the_lengths_asked_for():
    model = NGramWriter.fit(np.array([A, B, A, C, A, A, B, C, A, B]), vocab_size=3)
    prompts, lengths = [[A], [], [B, C]], [5, 0, 3]
    asked = [Prompt(prompt) for prompt in prompts]
    once = model.write(asked, lengths=lengths, seed=1).ids
    assert [len(row) for row in once] == lengths
    assert model.write(asked, lengths=lengths, seed=1).ids == once
    assert (
        model.write([Prompt([A])], lengths=[40], seed=1).ids
        != model.write([Prompt([A])], lengths=[40], seed=2).ids
    )


def test_documents_shorter_than_the_context_are_sampled_from():
    model = NGramWriter.fit(np.array([1, 2, 1, 2]), vocab_size=3, order=5, starts=np.array([0, 2]))
    drawn = model.write([Prompt([0, 1])] * 200, lengths=[1] * 200, seed=0).ids
    # after a 1: N = 2 of one type; before it the unigram, N = 4 of two types over the uniform 1/3
    unigram = (2 + 2 / 3) / (4 + 2)
    assert np.mean([row == [2] for row in drawn]) == pytest.approx((2 + unigram) / 3, abs=0.06)
