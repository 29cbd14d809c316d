"""The n-gram as a drafter: its probabilities, and what it drafts with noise."""

import numpy as np
import pytest
import torch

from jepalm.data.ngram import NGram
from jepalm.evaluation.text.ngram_drafter import NGramDrafter
from jepalm.generation.noise import GumbelNoise
from jepalm.generation.sampling import GREEDY, Sampling

VOCAB = 9


@pytest.fixture(scope="module")
def ngram():
    return NGram.fit(np.random.default_rng(0).integers(3, VOCAB, 400), VOCAB, 3)


def test_probabilities_are_those_that_score_a_text(ngram):
    pasts = [[3, 4], [8], [], [5, 5, 5, 6], [0, 0]]  # one longer than is read, one never seen
    probabilities = ngram.probabilities(pasts)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)
    for past, row in zip(pasts, probabilities, strict=True):
        nats = ngram.nll([past] * VOCAB, [[token] for token in range(VOCAB)])
        np.testing.assert_allclose(row, np.exp(-np.concatenate(nats)), rtol=1e-12)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(0.8, top_k=3)])
def test_each_token_is_drafted_after_those_before_it(ngram, sampling):
    texts, noise = [[3, 4, 5], [7]], GumbelNoise(1, VOCAB).at([0, 1], [0, 0], 5)
    drafts = NGramDrafter(ngram, 4).draft(texts, noise if sampling.temperature else None, sampling)
    for number, (text, draft) in enumerate(zip(texts, drafts, strict=True)):
        assert len(draft) == 4
        for place, token in enumerate(draft):
            logits = torch.from_numpy(np.log(ngram.probabilities([[*text, *draft[:place]]]))[0]).float()
            logits[:3] = float("-inf")
            assert token == int(sampling.choose(logits[None], noise[number, place][None]))
