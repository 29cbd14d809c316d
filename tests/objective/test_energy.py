import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from jepalm.objective.energy import energy_score

WINDOWS = (1, 2, 4, 8, "all")


def score(
    samples: Tensor,
    targets: Tensor,
    windows: tuple[int | Literal["all"], ...] = (1,),
    exponent: float = 1.0,
    lengths: tuple[int, ...] | None = None,
    hidden: Tensor | None = None,
) -> Tensor:
    """Scores (B,) of samples (N, B, T, D) and targets (M, B, T, D), of whole texts or of given lengths."""
    width = samples.shape[2]
    real = torch.tensor(lengths or (width,) * samples.shape[1])
    text = torch.arange(width) < real[:, None]
    return energy_score(samples, targets, text, windows, exponent, hidden).total


def written_out(samples: Tensor, targets: Tensor, windows: Any, exponent: float, length: int) -> float:
    """The score of one text, term by term: samples (N, T, D), targets (M, T, D)."""

    def distance(one: Tensor, other: Tensor) -> float:
        return float((one - other).square().mean()) ** (exponent / 2)

    found = []
    for window in windows:
        width = length if window == "all" else min(window, length)
        each = []
        for start in range(length - width + 1):
            x, y = (part[:, start : start + width] for part in (samples, targets))
            n, m = len(x), len(y)
            to = sum(distance(x[i], y[j]) for i in range(n) for j in range(m)) / (n * m)
            pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
            between = sum(distance(x[i], x[j]) for i, j in pairs) / len(pairs)
            each.append(2 * to - between)
        found.append(sum(each) / len(each))
    return sum(found) / len(found)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_two_samples_of_one_position_worked_by_hand():
    samples = torch.tensor([[[[3.0, 4.0]]], [[[0.0, 1.0]]]])  # (2, 1, 1, 2)
    target = torch.zeros(1, 1, 1, 2)
    # |y - x| is 5 and 1, their mean 3; |x - x'| = sqrt(9 + 9); all over sqrt(2)
    assert float(score(samples, target)) == pytest.approx((2 * 3 - math.sqrt(18)) / math.sqrt(2))


def test_two_samples_of_two_targets_worked_by_hand():
    samples, targets = torch.tensor([0.0, 4.0]).view(2, 1, 1, 1), torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    # |y - x|: 1, 2, 3, 2, whose mean is 2; |x - x'| = 4
    assert float(score(samples, targets)) == pytest.approx(2 * 2 - 4)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("length", [1, 3, 9, 10])
def test_windows_lie_inside_the_text_and_a_shorter_text_is_one(exponent: float, length: int):
    samples, targets = drawn(3, 2, 10, 4), drawn(2, 2, 10, 4, seed=1)
    found = score(samples, targets, WINDOWS, exponent, lengths=(10, length))
    for row, real in enumerate((10, length)):
        expected = written_out(samples[:, row], targets[:, row], WINDOWS, exponent, real)
        assert float(found[row]) == pytest.approx(expected, rel=1e-12)


def test_padding_of_a_batch_changes_no_score():
    samples, targets = drawn(3, 1, 5, 4), drawn(2, 1, 5, 4, seed=1)
    wider = [torch.cat((x, 7 + drawn(*x.shape[:2], 6, 4, seed=2)), 2) for x in (samples, targets)]
    found = score(*wider, WINDOWS, lengths=(5,))
    assert torch.allclose(found, score(samples, targets, WINDOWS), rtol=1e-12)


def test_windows_leave_out_positions_that_do_not_count_and_are_means_over_the_others():
    samples, targets = drawn(3, 1, 4, 2), drawn(1, 1, 4, 2, seed=1)
    hidden = torch.tensor([[False, True, True, False]])
    found = score(samples, targets, (2,), hidden=hidden)
    # windows of two from positions 0, 1 and 2 hold the hidden positions {1}, {1, 2} and {2}
    parts = [score(samples[:, :, a:b], targets[:, :, a:b], ("all",)) for a, b in ((1, 2), (1, 3), (2, 3))]
    assert float(found) == pytest.approx(float(sum(parts)) / 3, rel=1e-12)
    nothing = score(samples, targets, WINDOWS, hidden=torch.zeros_like(hidden))
    assert float(nothing) == 0


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
def test_gradients_are_finite_where_samples_and_targets_are_the_same(exponent: float):
    samples = torch.zeros(3, 1, 4, 2, requires_grad=True)
    score(samples, torch.zeros(2, 1, 4, 2), WINDOWS, exponent).sum().backward()
    assert torch.equal(samples.grad, torch.zeros_like(samples))


def least(modes: Tensor, windows: tuple[int | Literal["all"], ...]) -> Tensor:
    """What a generator of 12 equally likely texts (12, T) writes once it has learned modes (K, T)."""
    generator = torch.Generator().manual_seed(0)
    written = drawn(12, modes.shape[1]).mul(0.1).requires_grad_()
    optimizer = torch.optim.Adam([written], lr=0.05)
    targets = modes[:, None, :, None].expand(-1, 128, -1, -1)  # (K, 128, T, 1)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 300)
        optimizer.zero_grad()
        samples = written[torch.randint(12, (4, 128), generator=generator), :, None]  # (4, 128, T, 1)
        score(samples, targets, windows).mean().backward()
        optimizer.step()
    return written.detach()


HALF_OF_EACH = torch.tensor([-1.0] * 6 + [1.0] * 6, dtype=torch.float64)
TWO_MODES = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)


def test_the_energy_score_recovers_both_modes_of_a_toy():
    found = least(TWO_MODES, (1,)).flatten().sort().values
    assert torch.allclose(found, HALF_OF_EACH, atol=0.05)


def test_a_squared_distance_gives_the_mean_between_the_modes():
    samples = drawn(6, 1).mul(0.1).requires_grad_()
    optimizer = torch.optim.Adam([samples], lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        (samples[:, None] - TWO_MODES).square().mean().backward()
        optimizer.step()
    assert torch.allclose(samples.detach(), torch.zeros(6, 1).double(), atol=1e-3)


def test_with_exponent_2_the_score_is_that_of_the_samples_mean_alone():
    samples, target = drawn(5, 1, 3, 2), drawn(1, 1, 3, 2, seed=1)
    shifted = samples - samples.mean(0)
    for scale in (0.0, 1.0, 3.0):
        spread = samples.mean(0) + scale * shifted
        mean_error = float((samples.mean(0) - target[0]).square().mean())
        # 2 (e + v) - 2 v n / (n - 1), v the variance of the samples
        variance = float((scale * shifted).square().mean())
        expected = 2 * mean_error - 2 * variance / (5 - 1)
        assert float(score(spread, target, ("all",), 2.0)) == pytest.approx(expected, rel=1e-9)


EQUAL = torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)


def test_joint_windows_see_that_two_positions_are_equal_and_single_ones_do_not():
    opposite = EQUAL * torch.tensor([1.0, -1.0]).double()
    targets = EQUAL[:, None, :, None]
    agreeing, opposed = (torch.cat((pair, pair))[:, None, :, None] for pair in (EQUAL, opposite))
    alone = [float(score(samples, targets, (1,))) for samples in (agreeing, opposed)]
    joint = [float(score(samples, targets, ("all",))) for samples in (agreeing, opposed)]
    assert alone[0] == pytest.approx(alone[1], rel=1e-12)
    assert joint[0] < joint[1] - 0.3


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_least_joint_score_draws_two_positions_that_agree_as_the_targets_do(sign: float):
    modes = EQUAL * torch.tensor([1.0, sign]).double()
    found = least(modes, ("all",))
    assert torch.allclose(found[:, 1], sign * found[:, 0], atol=0.05)
    assert torch.allclose(found[:, 0].sort().values, HALF_OF_EACH, atol=0.05)
