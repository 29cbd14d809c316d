"""Autoregressive runs as samplers and scorers."""

import numpy as np
import pytest
import torch

from jepalm.config import HardwareConfig, from_mapping
from jepalm.data.tokenizer import byte_tokenizer, char_tokenizer
from jepalm.errors import UsageError
from jepalm.evaluation.samplers import AutoregressiveSampler, AutoregressiveScorer, same_tokenizer
from jepalm.hardware import choose_hardware
from jepalm.objective.causal import CausalObjective

CONTEXT = 12
PROMPTS = [[3, 4], [5], [6, 7, 8]]


@pytest.fixture(scope="module")
def hardware():
    return choose_hardware(HardwareConfig(device="cpu", threads=1, precision="fp32"))


@pytest.fixture(scope="module")
def objective():
    causal = {"n_layers": 2, "context_len": CONTEXT}
    config = from_mapping({"model": {"family": "causal", "dim": 16, "n_heads": 2, "causal": causal}})
    torch.manual_seed(0)
    built = CausalObjective(config.model, config.objective, 11).eval()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return built


def test_a_text_costs_what_the_model_says_token_by_token(objective, hardware):
    texts = [[9, 3, 4], [4], [10, 5]]
    found = AutoregressiveScorer(objective, hardware, "it").nll(PROMPTS, texts)
    for prompt, text, nats in zip(PROMPTS, texts, found, strict=True):
        for place, token in enumerate(text):
            logits = objective.model(torch.tensor([[*prompt, *text[:place]]]))[0, -1].detach().double()
            assert nats[place] == pytest.approx(-logits.log_softmax(-1)[token].item(), abs=1e-5)


def test_a_long_prompt_keeps_what_stands_before_the_text(objective, hardware):
    prompt, text = [3, 4, 5, 6] * 5, [7, 8]
    scorer = AutoregressiveScorer(objective, hardware, "it")
    (cut,) = scorer.nll([prompt[-(CONTEXT + 1 - len(text)) :]], [text])
    (whole,) = scorer.nll([prompt], [text])
    assert np.array_equal(whole, cut)


def test_a_text_beyond_the_context_is_refused(objective, hardware):
    with pytest.raises(UsageError, match="do not fit"):
        AutoregressiveScorer(objective, hardware, "it").nll([[3]], [[4] * (CONTEXT + 1)])


def test_samples_are_as_long_as_asked_and_follow_the_seed(objective, hardware):
    sampler = AutoregressiveSampler(objective, hardware)
    first, again, other = (sampler.sample(PROMPTS, [4, 1, 7], seed=seed) for seed in (1, 1, 2))
    assert [len(row) for row in first] == [4, 1, 7]
    assert first == again != other


def test_runs_with_other_tokenizers_are_refused():
    with pytest.raises(UsageError, match="it has another tokenizer"):
        same_tokenizer(char_tokenizer(), byte_tokenizer(), "it")
