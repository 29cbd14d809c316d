import json
import math
from pathlib import Path

import pytest
import torch
from tiny_objective import (
    TinyBatches,
    assert_resuming_is_exact,
    split,
    tiny_batch,
    tiny_config,
    tiny_objective,
    tiny_trainer,
)

from jepalm.config import RunningMeanConfig, UncertaintyConfig
from jepalm.objective.weighting import RunningMeanWeighting, UncertaintyWeighting
from jepalm.training.optimizer import build_optimizer, set_learning_rate

KINDS = ("fixed", "uncertainty", "ema")
NATS = frozenset({"reconstruction", "generation"})


def uncertainty(weights: dict[str, float], clamp: float | None = 4.0) -> UncertaintyWeighting:
    return UncertaintyWeighting(weights, UncertaintyConfig(clamp=clamp), NATS)


def last_row(folder: Path) -> dict[str, float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == "train"][-1]


def test_uncertainty_weighs_a_regression_by_half_and_a_cross_entropy_by_one() -> None:
    weighting = uncertainty({"reconstruction": 1.0, "embedding": 1.0})
    with torch.no_grad():
        weighting.log_variances.copy_(torch.tensor([math.log(2), math.log(4)]))
    losses = weighting({"reconstruction": torch.tensor(3.0), "embedding": torch.tensor(8.0)}, 1.0)
    # 3 / 2 + log(2) / 2 and 8 / 4 / 2 + log(4) / 2
    assert losses.total.item() == pytest.approx(1.5 + 0.5 * math.log(2) + 1.0 + math.log(2))
    assert {name: float(weight) for name, weight in losses.weights.items()} == pytest.approx(
        {"reconstruction": 0.5, "embedding": 0.125}
    )


@pytest.mark.parametrize(("name", "best"), [("embedding", 5.0), ("reconstruction", 10.0)])
def test_best_s_is_the_log_of_the_term_and_of_twice_a_cross_entropy(name: str, best: float) -> None:
    weighting = uncertainty({name: 1.0})
    with torch.no_grad():
        weighting.log_variances.fill_(math.log(best))
    weighting({name: torch.tensor(5.0)}, 1.0).total.backward()
    assert weighting.log_variances.grad is not None
    assert weighting.log_variances.grad.item() == pytest.approx(0, abs=1e-6)


def test_uncertainty_with_a_configured_weight_of_zero_leaves_the_term_out() -> None:
    weighting = uncertainty({"embedding": 0.0, "length": 1.0})
    losses = weighting({"embedding": torch.tensor(7.0), "length": torch.tensor(2.0)}, 1.0)
    assert losses.total.item() == 1.0


def test_s_at_the_clamp_comes_back_when_its_term_grows() -> None:
    weighting = uncertainty({"embedding": 1.0}, clamp=1.0)
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.5)
    for term, expected in ((0.0, -1.0), (100.0, 1.0)):
        for _ in range(20):
            weighting({"embedding": torch.tensor(term)}, 1.0).total.backward()
            optimizer.step()
            optimizer.zero_grad()
            weighting.after_step(None)
        assert weighting.log_variances.item() == expected


def vanishing_term(clamp: float | None, steps: int = 2000) -> tuple[float, float]:
    """Weight and loss after training x to 0 by x^2 under uncertainty weighting: s moves 0.01 a step."""
    weighting, x = uncertainty({"reconstruction": 1.0}, clamp), torch.nn.Parameter(torch.ones(()))
    groups = [{"params": [x], "lr": 1e-2}, {"params": weighting.parameters(), "lr": 1e-2}]
    optimizer = torch.optim.Adam(groups)
    for _ in range(steps):
        losses = weighting({"reconstruction": x.square()}, 1.0)
        losses.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        weighting.after_step(None)
    return float(losses.weights["reconstruction"]), losses.total.item()


def test_without_the_clamp_a_term_that_vanishes_takes_an_exploding_weight() -> None:
    weight, loss = vanishing_term(None)
    assert weight > 5e5
    assert loss < -5


def test_with_the_clamp_its_weight_stays_at_e_to_the_clamp() -> None:
    weight, loss = vanishing_term(4.0)
    assert weight == pytest.approx(math.exp(4), rel=1e-4)
    assert loss == pytest.approx(-2, abs=0.01)


def test_ema_divides_by_the_running_mean_and_not_by_less_than_the_floor() -> None:
    config = RunningMeanConfig(decay=0.75, floor=0.5)
    weighting = RunningMeanWeighting({"reconstruction": 1.0, "embedding": 3.0}, config)
    weighting.begin(torch.tensor([0.1, 8.0]))
    terms = {"reconstruction": torch.tensor(0.1), "embedding": torch.tensor(4.0)}
    losses = weighting(terms, 1.0)
    assert losses.total.item() == pytest.approx(0.1 / 0.5 + 3 * 4 / 8)
    weighting.after_step(torch.tensor([0.1, 4.0]))
    assert weighting.mean.tolist() == pytest.approx([0.1, 0.75 * 8 + 0.25 * 4])


def test_uncertainty_begins_anew_with_the_terms_it_enters() -> None:
    weighting = uncertainty({"reconstruction": 1.0, "embedding": 1.0})
    with torch.no_grad():
        weighting.log_variances.fill_(1.0)
    weighting.enter({"embedding": 3.0})
    losses = weighting({"embedding": torch.tensor(8.0)}, 1.0)
    assert (losses.total.item(), weighting.balanced) == (3 * 8 / 2, ["embedding"])


def test_ema_begins_anew_with_the_terms_it_enters() -> None:
    weighting = RunningMeanWeighting({"a": 1.0, "b": 1.0, "c": 1.0}, RunningMeanConfig(decay=0.5))
    weighting.begin(torch.tensor([5.0, 6.0, 7.0]))
    weighting.enter({"a": 1.0, "c": 2.0})
    weighting.begin(torch.tensor([8.0, 4.0]))
    weighting.after_step(torch.tensor([4.0, 4.0]))
    losses = weighting({"a": torch.tensor(3.0), "c": torch.tensor(2.0)}, 1.0)
    assert losses.total.item() == 3 / 6 + 2 * 2 / 4
    assert weighting.mean.tolist() == [6.0, 1.0, 4.0]


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_add_up_to_the_batch(kind: str) -> None:
    objective, batch = tiny_objective({"weighting": kind}), tiny_batch()
    whole = objective(batch).total
    parts = sum(objective(part).total for part in split(batch, 2, 6))
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("kind", ["uncertainty", "ema"])
def test_weights_do_not_depend_on_micro_batches(kind: str, tmp_path: Path) -> None:
    found = []
    for sizes in ((8,), (2, 6)):
        trainer = tiny_trainer(
            tmp_path / str(len(sizes)), tiny_config({"weighting": kind}), TinyBatches(*sizes)
        )
        trainer.train()
        found.append(trainer.objective.weighting.state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_resuming_is_exact(kind: str, tmp_path: Path) -> None:
    config = tiny_config({"weighting": kind})
    assert_resuming_is_exact(tmp_path / "run", config)


@pytest.mark.parametrize("kind", KINDS)
def test_logged_shares_follow_the_logged_weights(kind: str, tmp_path: Path) -> None:
    config = tiny_config({"weighting": kind}, log_every=1)
    tiny_trainer(tmp_path / "run", config).train()
    row = last_row(tmp_path / "run")
    terms = [key.removeprefix("train/term/") for key in row if key.startswith("train/term/")]
    weighted_terms = {name: row[f"train/weight/{name}"] * row[f"train/term/{name}"] for name in terms}
    shares = {name: row[f"train/share/{name}"] for name in terms}
    assert shares == pytest.approx(
        {
            name: weighted_term / sum(weighted_terms.values())
            for name, weighted_term in weighted_terms.items()
        },
        rel=1e-3,
    )
    if kind != "fixed":
        assert row["train/weight/embedding"] != 1.0


def test_s_has_its_own_group_without_weight_decay(tmp_path: Path) -> None:
    config = tiny_config({"weighting": "uncertainty", "uncertainty": {"lr_factor": 5}})
    objective = tiny_objective({"weighting": "uncertainty", "uncertainty": {"lr_factor": 5}})
    optimizer = build_optimizer(objective, config.optimizer)
    set_learning_rate(optimizer, 0.1)
    *_, group = optimizer.param_groups
    assert group["params"] == [objective.weighting.log_variances]
    assert (group["weight_decay"], group["lr"]) == (0.0, 0.5)


def test_fixed_weighting_adds_nothing_to_a_checkpoint() -> None:
    assert not [name for name in tiny_objective().state_dict() if name.startswith("weighting")]
