"""Runs of one recipe under several seeds."""

import numpy as np
import pytest

from jepalm.report.analysis.paired import MeanStd
from jepalm.report.analysis.seeds import group_by_recipe, mean_curve, mean_std
from jepalm.report.read import Series


def config(seed, **model):
    return {"training": {"seed": seed, "steps": 5}, "model": model}


def test_configs_that_differ_only_in_their_seed_are_gathered():
    configs = [config(0, dim=8), config(0, dim=16), config(1, dim=8), config(2, dim=16), config(7, dim=8)]
    assert group_by_recipe(configs) == [[0, 2, 4], [1, 3]]


def test_a_seed_that_repeats_is_no_further_repetition():
    assert group_by_recipe([config(0), config(0), config(1)]) == [[0, 2], [1]]


def test_a_setting_that_only_one_has_is_a_difference():
    assert group_by_recipe([config(0), config(1, dim=8)]) == [[0], [1]]


def test_a_number_and_its_text_are_not_the_same_setting():
    assert group_by_recipe([config(0, dim=8), config(1, dim="8")]) == [[0], [1]]


def test_spread_is_mean_and_sample_standard_deviation():
    # Deviations -2, 0, 2 of 4: squares add up to 8, over n - 1 = 2.
    assert mean_std([2.0, 4.0, 6.0]) == MeanStd(4.0, 2.0, 3)


def test_spread_counts_only_finite_values():
    assert mean_std([None, 5.0, float("nan")]) == MeanStd(5.0, None, 1)
    assert mean_std([None, float("inf")]) is None


def test_the_mean_curve_has_the_steps_that_all_have():
    curves = [
        Series(np.array([10, 20, 30]), np.array([1.0, 2.0, 3.0])),
        Series(np.array([20, 30, 40]), np.array([4.0, 3.0, 9.0])),
    ]
    mean, deviation = mean_curve(curves)
    assert (mean.step.tolist(), mean.value.tolist()) == ([20, 30], [3.0, 3.0])
    assert deviation.tolist() == pytest.approx([2**0.5, 0.0])


def test_the_mean_of_one_curve_is_itself_without_deviation():
    mean, deviation = mean_curve([Series(np.array([1, 2]), np.array([3.0, 4.0]))])
    assert (mean.value.tolist(), deviation.tolist()) == ([3.0, 4.0], [0.0, 0.0])
