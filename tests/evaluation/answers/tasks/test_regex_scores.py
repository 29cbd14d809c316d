import pytest

from jepalm.errors import UsageError
from jepalm.evaluation.answers.tasks.regex import score_regexes

GOLD = ["(dog)+", "[0-9]&[A-Z]", ".*dog.*", "~(a)", "[a-z]", ".*|a"]
PREDICTED = ["(dog)+", "[a-z]&[A-Z]", "(.*)(dog)(.*)", "~(a", "", ".*"]


def test_each_kind_of_answer_counts_where_it_should():
    scores = score_regexes(GOLD, PREDICTED)
    assert scores.exact.tolist() == [True, False, False, False, False, False]
    assert scores.equal.tolist() == [True, True, True, False, False, True]
    assert scores.degenerate.tolist() == [False, True, False, False, False, True]
    assert scores.malformed.tolist() == [False, False, False, True, True, False]
    assert not scores.undecided.any()


def test_guessing_the_empty_language_is_right_on_degenerate_gold_only():
    scores = score_regexes(GOLD, ["[0-9]&[A-Z]"] * 6)
    assert scores.equal.tolist() == [False, True, False, False, False, False]
    assert not scores.equal[~scores.degenerate].any()


def test_beyond_the_bound_only_the_same_text_is_right():
    large = ".*a.{20}"
    scores = score_regexes([large, large, "a"], [large, f"({large})", large])
    assert scores.undecided.all()
    assert scores.equal.tolist() == [True, False, False]
    assert not scores.degenerate.any()


def test_reading_of_a_word_boundary_decides():
    boundary = score_regexes([r"\bdog\b"], ["dog"])
    letter = score_regexes([r"\bdog\b"], ["dog"], reading="letter")
    assert (boundary.equal.all(), letter.equal.any()) == (True, False)


@pytest.mark.parametrize(
    ("gold", "predicted", "why"),
    [
        (["a"], [], "0 predictions for 1 expressions"),
        (["(a"], ["a"], r"gold text '\(a' is no expression"),
        ([""], [""], "gold text '' is no expression"),
    ],
)
def test_lists_that_cannot_be_scored(gold: list[str], predicted: list[str], why: str):
    with pytest.raises(UsageError, match=why):
        score_regexes(gold, predicted)
