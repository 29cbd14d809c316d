import math

import pytest

from jepalm.numbers import duration, three


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


def test_durations_carry_units():
    assert [duration(s) for s in (0, 0.0824, 61, 2040, 30960)] == [
        "0 s", "82.4 ms", "61.0 s", "34.0 min", "8.60 h"
    ]  # fmt: skip
