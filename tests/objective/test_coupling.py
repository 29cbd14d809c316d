from typing import Any

import numpy as np
import pytest
import torch

from jepalm.config import ModelConfig
from jepalm.data.batches import Batch, Tokens
from jepalm.model.causal import CausalLM
from jepalm.model.noise import draw_gumbel
from jepalm.objective.coupling import Teacher, posterior_noise

N = 20_000
FAR = 1.95 / N**0.5
"""What the Kolmogorov-Smirnov statistic of N draws exceeds once in a thousand times."""


def distance_to_gumbel(draws: torch.Tensor) -> float:
    """Largest difference between the draws' distribution function and exp(-exp(-x))."""
    found = np.exp(-np.exp(-np.sort(draws.double().numpy())))
    n = len(found)
    return float(max((np.arange(1, n + 1) / n - found).max(), (found - np.arange(n) / n).max()))


@pytest.fixture(scope="module")
def chain() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Texts of 3 tokens from a Markov chain over 4: their tokens, log-probabilities and posterior noise."""
    torch.manual_seed(0)
    rows = torch.tensor(
        [[0.9, 0.06, 0.03, 0.01], [0.25, 0.25, 0.25, 0.25], [0.0, 0.5, 0.499, 0.001], [1, 0, 0, 0]],
        dtype=torch.float64,
    )
    before, tokens, probabilities = torch.full((N,), 1), [], []
    for _ in range(3):
        probabilities.append(rows[before])
        before = torch.multinomial(rows[before], 1).squeeze(1)
        tokens.append(before)
    log_p, texts = torch.stack(probabilities, 1).log(), torch.stack(tokens, 1)  # (N, 3, 4), (N, 3)
    return texts, log_p, posterior_noise(log_p, texts)


def test_under_posterior_noise_the_target_is_the_argmax_at_every_draw() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = 40 * torch.randn(40_000, 12, generator=generator, dtype=torch.float64)
    scores[::3, 5] = float("-inf")
    log_p = scores.log_softmax(-1)
    targets = torch.randint(6, 12, (40_000,), generator=generator)  # also where p is tiny
    assert log_p.gather(1, targets[:, None]).min() < -200
    noise = posterior_noise(log_p, targets, generator)
    assert torch.isfinite(noise).all()
    assert torch.equal((log_p + noise).argmax(-1), targets)


def test_over_texts_of_the_model_every_component_is_standard_gumbel(chain: Any) -> None:
    _, _, noise = chain
    distances = [distance_to_gumbel(noise[:, place, token]) for place in range(3) for token in range(4)]
    assert max(distances) < FAR


def test_over_texts_of_the_model_the_components_are_independent(chain: Any) -> None:
    _, _, noise = chain
    even = (-(-noise).exp()).exp().flatten(1)  # (N, 12), even between 0 and 1
    correlations = torch.corrcoef(even.T) - torch.eye(12, dtype=torch.float64)
    assert correlations.abs().max() < 4.5 / N**0.5


def test_the_maximum_is_gumbel_whatever_the_token(chain: Any) -> None:
    texts, log_p, noise = chain
    highest = (log_p + noise)[:, 0].max(-1).values
    for token in range(4):
        drawn = highest[texts[:, 0] == token]
        assert distance_to_gumbel(drawn) < 1.95 / len(drawn) ** 0.5


def test_pinning_the_winner_above_free_losers_would_not_pass(chain: Any) -> None:
    """The statistic is sharp enough to find the known mistake."""
    texts, log_p, _ = chain
    torch.manual_seed(1)
    free = draw_gumbel((N, 4)).double()
    rest = (log_p[:, 0] + free).scatter(1, texts[:, :1], float("-inf")).max(-1, keepdim=True).values
    winner = torch.maximum(rest + 1e-6 - log_p[:, 0].gather(1, texts[:, :1]), free.gather(1, texts[:, :1]))
    pinned = free.scatter(1, texts[:, :1], winner)
    assert max(distance_to_gumbel(pinned[:, token]) for token in range(4)) > 5 * FAR


def test_drawn_noise_is_standard_gumbel_and_a_function_of_its_seed() -> None:
    one, same, other = (draw_gumbel((N,), generator=torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert distance_to_gumbel(one) < FAR


def tiny_teacher() -> Teacher:
    torch.manual_seed(0)
    config = {"dim": 16, "n_heads": 2, "ffn_mult": 2, "causal": {"n_layers": 2, "context_len": 32}}
    model = CausalLM(ModelConfig.model_validate(config), 20)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)  # unlike a new model's, its next token depends on what stands before
    return Teacher(model)


def windows(n: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randint(3, 20, (n, width), generator=generator) for width in (12, 10)]
    source, target = (Tokens(ids, torch.full((n,), ids.shape[1])) for ids in views)
    return Batch(source, target, None, n, 10 * n)


def test_what_the_teacher_writes_is_what_the_noise_says_in_one_pass() -> None:
    teacher, batch = tiny_teacher(), windows()
    noise = draw_gumbel((6, 10, 20), generator=torch.Generator().manual_seed(2))
    written, states = teacher.write(batch.source.ids, noise)
    log_p, same = teacher.read(batch.source.ids, written)
    assert torch.allclose(states, same, atol=1e-3)
    assert torch.equal((log_p + noise).argmax(-1), written)
    assert written.min() >= 3  # no special token
    assert len(set(map(tuple, written.tolist()))) == 6


def test_posterior_noise_makes_the_teacher_write_the_text() -> None:
    teacher, batch = tiny_teacher(), windows()
    log_p, _ = teacher.read(batch.source.ids, batch.target.ids)
    noise = posterior_noise(log_p, batch.target.ids, torch.Generator().manual_seed(2))
    assert torch.equal(teacher.write(batch.source.ids, noise)[0], batch.target.ids)
