"""A tiny JEPALM on texts with two right answers: two equal tokens, of one kind or of another."""

from typing import Any

import pytest
import torch
from torch import Tensor

from jepalm.config import ModelConfig, ObjectiveConfig
from jepalm.data.batches import Batch, Tokens
from jepalm.generation.one_pass import generate
from jepalm.objective.jepalm import JepalmObjective

SOURCES, FIRST = (3, 4, 5), 6
MODEL: dict[str, Any] = {
    "dim": 16,
    "n_heads": 2,
    "ffn_mult": 2,
    "source_len": 1,
    "target_len": 2,
    "encoder": {"n_layers": 0},
    "decoder": {"n_layers": 0},
    "predictor": {"n_layers": 2, "dim": 32, "noise": "gaussian", "noise_dim": 4},
}


def answers(source: int) -> tuple[int, int]:
    first = FIRST + 2 * (source - SOURCES[0])
    return first, first + 1


def pairs(n: int, generator: torch.Generator) -> Batch:
    source = torch.randint(SOURCES[0], FIRST, (n,), generator=generator)
    token = FIRST + 2 * (source - SOURCES[0]) + torch.randint(0, 2, (n,), generator=generator)
    one = torch.ones(n, dtype=torch.long)
    return Batch(Tokens(source[:, None], one), Tokens(token[:, None].repeat(1, 2), 2 * one), None, n, 2 * n)


def learned(embedding: dict[str, Any], steps: int) -> JepalmObjective:
    torch.manual_seed(0)
    settings = ObjectiveConfig.model_validate({"length": {"kind": "none"}, "embedding": embedding})
    objective = JepalmObjective(ModelConfig.model_validate(MODEL), settings, 12)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.01, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / steps)
        optimizer.zero_grad()
        objective(pairs(64, generator)).total.backward()
        optimizer.step()
    return objective.eval()


def written(objective: JepalmObjective, source: int) -> Tensor:
    """1,000 texts (1000, 2) after one source."""
    read = Tokens(torch.full((1000, 1), source), torch.ones(1000, dtype=torch.long))
    return generate(objective, read, temperature=1.0, generator=torch.Generator().manual_seed(1)).ids


@pytest.mark.slow
def test_one_pass_draws_either_answer_and_seldom_a_mixture():
    objective = learned({"distance": "energy", "samples": 4, "windows": [1, "all"]}, 500)
    for source in SOURCES:
        ids = written(objective, source)
        one, other = answers(source)
        assert bool(((ids == one) | (ids == other)).all())
        shares = [float((ids == answer).all(1).float().mean()) for answer in (one, other)]
        assert min(shares) > 0.3  # of independent positions 0.25 each
        assert sum(shares) > 0.75


@pytest.mark.slow
def test_with_a_squared_distance_the_noise_is_not_used():
    objective = learned({"distance": "mse", "weight": 0.05}, 200)
    for source in SOURCES:
        _, counts = written(objective, source).unique(dim=0, return_counts=True)
        assert float(counts.max()) > 950  # whatever the decoder reads the mean as, it is one text
