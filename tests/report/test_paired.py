"""The paired test and Holm's correction against numbers worked out by hand."""

import math

import pytest

from jepalm.report.analysis.paired import MeanStd, holm, paired_difference


def test_mean_and_sample_standard_deviation():
    assert MeanStd.of([1.0, 2.0, 4.0]) == MeanStd(pytest.approx(7 / 3), pytest.approx(math.sqrt(7 / 3)), 3)
    assert MeanStd.of([5.0]) == MeanStd(5.0, None, 1)
    assert MeanStd.of([]) is None


def test_three_seeds_against_the_closed_form_of_two_degrees_of_freedom():
    """Differences 1, 2, 3: t = 2 sqrt(3); for 2 degrees of freedom p = 1 - t / sqrt(t^2 + 2)."""
    found = paired_difference({0: 2.0, 1: 4.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0})
    assert (found.mean, found.n) == (2.0, 3)
    assert found.p == pytest.approx(1 - math.sqrt(12 / 14))
    critical = math.sqrt(2 * 0.95**2 / (1 - 0.95**2))  # 4.3027
    assert found.high - 2 == pytest.approx(critical / math.sqrt(3))
    assert 2 - found.low == pytest.approx(critical / math.sqrt(3))
    assert not found.clear


def test_two_seeds_against_the_cauchy_distribution():
    """Differences 1, 3: t = 2 with one degree of freedom."""
    found = paired_difference({4: 1.0, 5: 3.0}, {4: 0.0, 5: 0.0})
    assert found.p == pytest.approx(1 - 2 / math.pi * math.atan(2))
    assert found.high - 2 == pytest.approx(math.tan(0.475 * math.pi))


def test_only_common_seeds_are_paired():
    found = paired_difference({0: 1.0, 1: 5.0, 2: 9.0}, {1: 4.0, 2: 7.0, 3: 100.0})
    assert (found.mean, found.n) == (1.5, 2)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_one_common_seed_has_a_difference_and_no_test():
    found = paired_difference({0: 3.0}, {0: 1.0})
    assert (found.mean, found.low, found.p, found.clear) == (2.0, None, None, False)


@pytest.mark.parametrize(("shift", "p", "clear"), [(0.0, 1.0, False), (0.5, 0.0, True)])
def test_equal_differences_leave_no_doubt(shift, p, clear):
    found = paired_difference({0: 1 + shift, 1: 2 + shift}, {0: 1.0, 1: 2.0})
    assert (found.mean, found.low, found.high, found.p, found.clear) == (shift, shift, shift, p, clear)


def test_holm_by_hand():
    """0.01 x 3, 0.03 x 2, and 0.04 x 1 raised to the one before it."""
    assert holm([0.01, None, 0.04, 0.03]) == [
        pytest.approx(0.03),
        None,
        pytest.approx(0.06),
        pytest.approx(0.06),
    ]
    assert holm([0.6, 0.7]) == [1.0, 1.0]
