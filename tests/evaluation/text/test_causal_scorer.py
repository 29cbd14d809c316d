"""A causal model as scorer and baseline."""

import numpy as np
import pytest
import torch

from jepalm.config import HardwareConfig, from_mapping
from jepalm.errors import UsageError
from jepalm.evaluation.text.likelihood import CausalScorer
from jepalm.generation.sampling import Sampling
from jepalm.generation.token_by_token import CausalWriter
from jepalm.generation.writer import Prompt
from jepalm.hardware import choose_hardware
from jepalm.objective.causal import CausalObjective

VOCAB, CONTEXT = 11, 12


@pytest.fixture
def scorer():
    causal = {"n_layers": 2, "context_len": CONTEXT}
    config = from_mapping({"model": {"family": "causal", "dim": 16, "n_heads": 2, "causal": causal}})
    torch.manual_seed(0)
    objective = CausalObjective(config.model, config.objective, VOCAB).eval()
    for parameter in objective.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    hardware = choose_hardware(HardwareConfig(device="cpu", precision="fp32", threads=1))
    return CausalScorer("tiny", objective, hardware, batch_size=2)


def nats_of(scorer, before, token):
    logits = scorer.objective.model(torch.tensor([before]))[0, -1].detach().double()
    return -float(logits.log_softmax(-1)[token])


PROMPTS = [[3, 4, 5], [6], [7, 8], [9] * 14, [3]]
TEXTS = [[6, 7], [3, 4, 5, 6], [], [10, 3], [4, 5, 6, 7, 8, 9, 10, 3, 4, 5, 6, 7, 8, 9]]


def test_each_token_costs_its_nats_given_prompt_and_text_before(scorer):
    found = scorer.nll(PROMPTS, TEXTS)
    assert [len(row) for row in found] == [len(text) for text in TEXTS]
    for prompt, text, row in list(zip(PROMPTS, TEXTS, found, strict=True))[:4]:
        whole = [*prompt, *text][-CONTEXT - 1 :]
        places = range(len(whole) - len(text), len(whole))
        expected = [nats_of(scorer, whole[:place], whole[place]) for place in places]
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-5)


def test_a_text_longer_than_the_context_is_read_by_a_sliding_window(scorer):
    row = scorer.nll(PROMPTS, TEXTS)[4]
    whole = [*PROMPTS[4], *TEXTS[4]]
    assert row[0] == pytest.approx(nats_of(scorer, whole[:1], whole[1]), abs=1e-5)
    assert row[-1] == pytest.approx(nats_of(scorer, whole[-CONTEXT - 1 : -1], whole[-1]), abs=1e-5)


def test_an_empty_prompt_is_told(scorer):
    with pytest.raises(UsageError, match="prompt is empty"):
        scorer.nll([[]], [[3]])


def test_samples_cost_the_entropy_of_the_model(scorer):
    """Drawn tokens must be as likely as the model says: their mean cost is its mean entropy."""
    prompts = [[3]] * 2000
    writer = CausalWriter("tiny", scorer.objective, scorer.hardware, 1, sampling=Sampling(1.0))
    texts = writer.write([Prompt([3])] * 2000, seed=0).ids
    cost = np.concatenate(scorer.nll(prompts, texts)).mean()
    logits = scorer.objective.model(torch.tensor([[3]]))[0, -1].detach().double()
    probabilities = logits[3:].softmax(-1)  # specials are never written
    expected = -(probabilities * logits.log_softmax(-1)[3:]).sum()
    assert cost == pytest.approx(float(expected), abs=0.06)
