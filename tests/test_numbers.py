"""Numbers as people read them."""

import math

import pytest

from jepalm.numbers import change, count, duration, percent, signed, three


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.29, "0.290"),
        (0.0031234, "0.00312"),
        (57.48, "57.5"),
        (1204.4, "1,200"),
        (2e-7, "2.00e-7"),
        (12_345_678, "1.23e7"),
        (9.999, "10.0"),
        (0.000012, "1.20e-5"),
        (0.00647, "0.00647"),
        (0, "0"),
        (-25.34, "-25.3"),
        (math.nan, "not finite"),
        (None, "–"),
    ],
)
def test_three_significant_digits(value, text):
    assert three(value) == text


def test_a_share_that_rounds_to_nothing_is_not_called_nothing():
    assert (percent(0.0001), percent(0), percent(0.575)) == ("< 0.1 %", "0.0 %", "57.5 %")


def test_change_carries_its_sign():
    assert (change(-0.253), change(0.1)) == ("-25.3 %", "+10.0 %")


def test_counts_and_durations_carry_units():
    assert (count(10_120_000), count(512)) == ("10.1 M", "512")
    assert [duration(s) for s in (0.0824, 61, 2040, 30960)] == ["82.4 ms", "61.0 s", "34.0 min", "8.60 h"]


def test_an_estimate_has_two_digits_and_changes_its_unit_at_90():
    shown = [duration(seconds, digits=2) for seconds in (0.0824, 42, 89, 90, 2040, 5399, 30960)]
    assert shown == ["82 ms", "42 s", "89 s", "1.5 min", "34 min", "90 min", "8.6 h"]


def test_a_signed_number_carries_its_sign():
    assert [signed(value) for value in (1.25, -1.93, None)] == ["+1.25", "-1.93", "–"]
