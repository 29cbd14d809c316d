import math

import pytest
import torch

from jepalm.evaluation.validation.health import effective_rank, mean_std, r2


def rows_with_spectrum(singular: list[float]) -> torch.Tensor:
    """Centred rows whose singular values are the given ones."""
    size = len(singular)
    orthogonal, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))
    signs = torch.cat((torch.eye(size, dtype=torch.float64), -torch.eye(size, dtype=torch.float64))) / 2**0.5
    return signs @ torch.diag(torch.tensor(singular, dtype=torch.float64)) @ orthogonal


def test_isotropic_rows_have_full_rank():
    assert effective_rank(rows_with_spectrum([3.0] * 6)) == pytest.approx(6, rel=1e-6)


def test_rows_along_one_direction_have_rank_one():
    rows = torch.arange(5.0)[:, None] * torch.tensor([[1.0, 2.0, -1.0]]) + 7
    assert effective_rank(rows) == pytest.approx(1, abs=1e-4)


def test_a_known_spectrum_gives_the_exponential_of_its_entropy():
    shares = (0.5, 0.25, 0.25)
    expected = math.exp(-sum(share * math.log(share) for share in shares))
    assert effective_rank(rows_with_spectrum([2.0, 1.0, 1.0])) == pytest.approx(expected, rel=1e-6)


def test_the_mean_does_not_count_as_a_direction():
    rows = rows_with_spectrum([1.0, 1.0])
    assert effective_rank(rows + 100) == pytest.approx(2, rel=1e-6)


def test_rows_that_are_all_the_same_have_rank_one_and_no_spread():
    rows = torch.full((4, 3), 2.0)
    assert effective_rank(rows) == 1.0
    assert mean_std(rows) == 0.0


def test_std_is_that_of_each_dimension_then_the_mean():
    assert mean_std(torch.tensor([[0.0, 0.0], [2.0, 6.0]])) == 2.0


@pytest.mark.parametrize(("error", "expected"), [(0.0, 1.0), (2.0, 0.5), (4.0, 0.0), (6.0, -0.5)])
def test_r2_is_the_share_of_the_baselines_error_that_is_gone(error: float, expected: float):
    assert r2(torch.tensor(error), torch.tensor(4.0)) == expected


def test_r2_over_a_baseline_without_error_is_not_a_number():
    assert math.isnan(r2(torch.tensor(1.0), torch.tensor(0.0)))
