"""The NumPy loop is the causal model: the same logits, the same texts."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny_objective import CPU

from jepalm.config import ModelConfig, ObjectiveConfig
from jepalm.evaluation.speed.numpy_causal import NumpyCausalLM, NumpyCausalWriter
from jepalm.generation.sampling import Sampling
from jepalm.generation.token_by_token import CausalWriter
from jepalm.generation.writer import Prompt
from jepalm.model.causal import CausalLM
from jepalm.objective.causal import CausalObjective

TEXTS = [[5, 6, 7, 8, 9], [4, 10, 11]]


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def objective(request: Any) -> CausalObjective:
    model = {"family": "causal", "dim": 32, "n_heads": 4, "ffn_mult": 2}
    causal = {"n_layers": 2, "context_len": 24, "tied": request.param}
    config = ModelConfig.model_validate({**model, "causal": causal})
    torch.manual_seed(0)
    built = CausalObjective(config, ObjectiveConfig(), 20).eval()
    for parameter in built.parameters():
        parameter.data.add_(0.2 * torch.randn(parameter.shape))
    return built


def test_every_steps_logits_are_those_of_the_torch_model(objective: CausalObjective):
    model = objective.model
    assert isinstance(model, CausalLM)
    loop, texts = NumpyCausalLM(model), [list(text) for text in TEXTS]
    logits = loop.read(texts, 12)
    for tokens in ([7, 8], [12, 4], [5, 5]):
        for row, text in zip(logits, texts, strict=True):
            with torch.no_grad():
                expected = model(torch.tensor([text]))[0, -1].numpy()
            assert np.allclose(row, expected, atol=1e-5)
        logits = loop.step(np.array(tokens))
        for text, token in zip(texts, tokens, strict=True):
            text.append(token)


@pytest.mark.parametrize("end", [None, 2])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_texts_are_those_of_the_torch_writer(objective: CausalObjective, end: int | None, temperature: float):
    assert isinstance(objective.model, CausalLM)
    prompts, sampling = [Prompt(text) for text in TEXTS], Sampling(temperature)
    own = CausalWriter("run", objective, CPU, 8, end, sampling).write(prompts, seed=4)
    loop = NumpyCausalLM(objective.model)
    made = NumpyCausalWriter("run", loop, CPU, 8, end, sampling).write(prompts, seed=4)
    assert made.ids == own.ids
    assert made.nfe == own.nfe
