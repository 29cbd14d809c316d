"""Statistics of texts against numbers worked out by hand and plain counting."""

import math
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepalm.evaluation.bootstrap import percentile_interval, ratio, resampled
from jepalm.evaluation.text.statistics import (
    Copies,
    block_entropy,
    brier,
    distinct,
    jensen_shannon,
    lexicon,
    ngrams,
    repeated,
    valid_words,
    word_ngrams,
    words,
)

texts = st.lists(st.text("abc\n", max_size=12), max_size=6)


def counted(found, n):
    return Counter(text[at : at + n] for text in found for at in range(len(text) - n + 1))


def bits(counter):
    total = sum(counter.values())
    return -sum(count / total * math.log2(count / total) for count in counter.values())


@given(texts, st.integers(1, 5))
def test_ngrams_are_those_within_each_text(found, n):
    keys = ngrams(found, n)
    expected = [text[at : at + n] for text in found for at in range(len(text) - n + 1)]
    assert len(keys) == len(expected)
    assert (
        len(set(zip(keys.tolist(), expected, strict=True))) == len(set(expected)) == len(set(keys.tolist()))
    )


def test_entropy_of_four_equal_and_of_a_skewed_set():
    assert block_entropy(ngrams(["abcd"], 1)) == pytest.approx(2)
    assert block_entropy(ngrams(["aaab"], 1)) == pytest.approx(2 - 0.75 * math.log2(3))
    assert block_entropy(ngrams(["ab", "ab"], 2)) == 0


@given(texts.filter(lambda found: any(map(len, found))))
def test_entropy_is_that_of_plain_counting(found):
    assert block_entropy(ngrams(found, 1)) == pytest.approx(bits(counted(found, 1)))


def test_entropy_of_nothing_is_not_a_number():
    assert math.isnan(block_entropy(ngrams(["abc"], 4)))


def test_divergence_is_nothing_for_the_same_and_a_bit_for_disjoint_texts():
    assert jensen_shannon(ngrams(["abab"], 1), ngrams(["ba"], 1)) == pytest.approx(0)
    assert jensen_shannon(ngrams(["aa"], 1), ngrams(["bb"], 1)) == pytest.approx(1)


def test_divergence_of_a_half_overlap():
    # p = (1, 0), q = (1/2, 1/2), middle (3/4, 1/4): H(m) - (0 + 1) / 2
    expected = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)) - 0.5
    assert jensen_shannon(ngrams(["aa"], 1), ngrams(["ab"], 1)) == pytest.approx(expected)


@given(*[texts.filter(lambda found: any(map(len, found)))] * 2)
def test_divergence_is_symmetric_and_between_nothing_and_a_bit(one, other):
    p, q = ngrams(one, 1), ngrams(other, 1)
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p))
    assert -1e-12 <= jensen_shannon(p, q) <= 1 + 1e-12


def test_words_keep_inner_apostrophes_and_lose_case():
    assert words("Is't so? 'Tis O'Neil's_2nd, naïve—yes") == [
        "is't",
        "so",
        "tis",
        "o'neil's",
        "nd",
        "naïve",
        "yes",
    ]


def test_words_that_the_edges_cut_are_left_out():
    known = lexicon("the cat sat on mats")
    assert valid_words("the cat zat on", known) == (2, 3)  # "on" may be cut
    assert valid_words("the cat zat on.", known) == (3, 4)
    assert valid_words("he cat sat\n", known, before="t") == (2, 2)
    assert valid_words("he cat sat\n", known, before="t ") == (2, 3)
    assert valid_words("cat", known) == (0, 0)


def test_distinct_counts_word_ngrams_within_texts():
    assert distinct(word_ngrams(["a b a", "a b"], 1)) == 2 / 5
    assert distinct(word_ngrams(["a b a", "a b"], 2)) == 2 / 3
    assert math.isnan(distinct(word_ngrams(["a"], 2)))


def test_repeated_counts_what_stood_in_the_text_before():
    assert repeated("abcabcab", 3) == (3, 6)
    assert repeated("ab", 3) == (0, 0)


@given(st.text("ab", max_size=30), texts, st.integers(1, 4))
def test_coverage_is_that_of_marking_each_place(training, found, n):
    pieces = set(counted([training], n))
    expected = []
    for text in found:
        marked = set()
        for at in range(len(text) - n + 1):
            if text[at : at + n] in pieces:
                marked.update(range(at, at + n))
        expected.append(len(marked))
    assert Copies(training, n).covered(found).tolist() == expected


def test_a_megabyte_is_searched_for_copies_in_seconds():
    letters = np.random.default_rng(0).integers(ord("a"), ord("z"), 1_000_000, dtype=np.uint8)
    training = letters.tobytes().decode()
    start = time.process_time()
    covered = Copies(training).covered([training[at : at + 30] for at in range(0, 900_000, 90)])
    assert time.process_time() - start < 10
    assert covered.tolist() == [30] * 10_000


def test_brier_of_two_samples_by_the_formula():
    real = ["ab", "ab", "ab", "ab"]
    first, second = ["ab", "ab", "xx", "xx"], ["ab", "cd", "xx", "yy"]
    found = brier([first, second], real, 2)
    assert found.accuracy.tolist() == [2, 1, 0, 0]
    assert found.collision.tolist() == [1, 0, 1, 0]
    assert found.score.tolist() == [1, 1, -1, 0]


def test_brier_looks_at_the_first_characters_only():
    assert brier([["abX"], ["abY"]], ["abZ"], 2).score.tolist() == [1]
    assert brier([["abX"], ["abY"]], ["abZ"], 3).score.tolist() == [0]
    assert brier([["a"], ["ab"]], ["a"], 2).score.tolist() == [1]


def test_brier_of_more_samples_is_the_mean_over_their_pairs():
    samples = [["a"], ["b"], ["a"], ["c"]]
    pairs = [(i, j) for i in range(4) for j in range(4) if i < j]
    scores = [brier([samples[i], samples[j]], ["a"], 1).score[0] for i, j in pairs]
    assert brier(samples, ["a"], 1).score[0] == pytest.approx(np.mean(scores))


def test_brier_has_the_mean_of_the_quadratic_score():
    rng, n = np.random.default_rng(0), 60_000
    chance = np.array([0.5, 0.3, 0.2])
    one, two, real = ([str(x) for x in rng.choice(3, n, p=chance)] for _ in range(3))
    expected = 2 * (chance**2).sum() - (chance**2).sum()  # of the true distribution
    assert brier([one, two], real, 1).score.mean() == pytest.approx(expected, abs=0.02)


def test_brier_needs_two_samples():
    with pytest.raises(ValueError, match="two samples"):
        brier([["a"]], ["a"], 1)


def test_resampling_is_of_pairs_and_repeats_with_its_seed():
    above, below = [1.0, 4.0, 9.0], [1.0, 2.0, 3.0]
    draws = resampled(above, below, seed=3)
    possible = {
        sum(above[i] for i in picks) / sum(below[i] for i in picks)
        for picks in np.ndindex(3, 3, 3)
    }  # fmt: skip
    assert len(draws) == 1000
    assert all(min(abs(draw - value) for value in possible) < 1e-12 for draw in draws)
    assert np.array_equal(draws, resampled(above, below, seed=3))


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide():
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = percentile_interval(resampled(values, seed=0))
    assert low == pytest.approx(values.mean() - 1.96 * 0.1, abs=0.03)
    assert high == pytest.approx(values.mean() + 1.96 * 0.1, abs=0.03)


def test_percentiles_cut_two_and_a_half_percent_from_each_end():
    low, high = percentile_interval(np.arange(1001.0))
    assert (low, high) == (pytest.approx(25), pytest.approx(975))


def test_nothing_finite_has_no_interval():
    assert percentile_interval(np.array([np.nan])) is None
    assert math.isnan(ratio(1, 0))
