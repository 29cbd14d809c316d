"""Each scorer on hand-made rows, with the ways in which an answer could be right for nothing."""

import math
from decimal import Decimal

import pytest

from jepalm.data.pairs.tasks import final_answer
from jepalm.errors import UsageError
from jepalm.evaluation.answers.tasks import SCORES, score_of
from jepalm.evaluation.answers.tasks.g2p import edit_distance
from jepalm.evaluation.answers.tasks.nq_open import normalised
from jepalm.evaluation.answers.tasks.shares import Answered, Share
from jepalm.evaluation.answers.tasks.transitions import score_transitions


def scored(task, gold, written, sources=None, **options):
    answered = Answered(sources or [""] * len(gold), gold, written)
    return {share.name: share for share in score_of(task, **options)(answered)}


def right(task, gold, written, name):
    return scored(task, [gold], [written])[name].value


def test_text_is_right_when_it_is_the_same_and_never_when_it_is_empty():
    shares = scored("text", ["a cat", "dog", " ", "ab"], ["a cat\n", "dig", "", "abcd"])
    assert shares["exact_match"].above.tolist() == [1, 0, 0, 0]
    # characters: 5 of 6, 2 of 3, 0 of 1, 2 of 4
    assert shares["in_place"].value == pytest.approx(9 / 14)


def test_a_share_counts_only_what_counts():
    share = Share.of("x", [True, True, False], [True, False, True])
    assert share.value == 1 / 2
    assert math.isnan(Share.of("x", [True], [False]).value)


def test_expressions_have_their_shares_and_their_reading():
    gold, written = ["(dog)+", "[0-9]&[A-Z]", r"\bdog\b"], ["dog(dog)*", "[a-z]&[A-Z]", "dog"]
    shares = scored("regex", gold, written)
    assert {name: share.value for name, share in shares.items()} == {
        "exact_match": 0,
        "language_equality": 1,
        "language_equality_nondegenerate": 1,
        "malformed": 0,
        "undecided": 0,
    }
    assert scored("regex", gold, written, reading="letter")["language_equality"].value == pytest.approx(2 / 3)
    assert scored("regex", ["a"], [""])["malformed"].value == 1


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("so it is 1200.\n#### 1,200", 1),
        ("#### $1200.00", 1),
        ("#### 1200.", 1),
        ("#### 12\n#### 1200\n", 1),
        ("#### 1200\n#### 12", 0),
        ("1200", 0),
        ("", 0),
        ("####", 0),
        ("#### ", 0),
        ("#### 1200 apples", 0),
        ("#### 120,0", 0),
        ("#### 12001", 0),
    ],
)
def test_the_final_number_of_a_solution_counts(written, value):
    assert right("gsm8k", "600 times 2 is 1200\n#### 1200", written, "answer") == value


def test_numbers_are_compared_as_numbers_and_other_answers_as_text():
    assert final_answer("#### -.50") == Decimal("-0.5")
    assert final_answer("#### 1/2") == "1/2"
    assert right("gsm8k", "#### 1/2", "#### 1/2", "answer") == 1
    with pytest.raises(UsageError, match="no final answer after ####"):
        scored("gsm8k", ["42"], ["#### 42"])


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("the beatles!", 1),
        ("Beatles", 1),
        ("Queen", 1),
        ("Queen; Abba", 1),
        ("Abba; Queen", 0),
        ("Beat", 0),
        ("e", 0),
        ("", 0),
        ("; ", 0),
        ("Beatles Queen", 0),
    ],
)
def test_one_of_several_right_answers_is_enough_but_a_part_of_one_is_not(written, value):
    assert right("nq-open", "The Beatles; Queen", written, "answer") == value


def test_what_normalisation_would_empty_stays():
    assert [normalised(text) for text in ("The", "A  Cat.", "?", "")] == ["the", "cat", "?", ""]
    assert right("nq-open", "The", "the", "answer") == 1
    assert right("nq-open", "The", "A", "answer") == 0


def test_random_facts_of_a_state_do_not_count_and_what_is_known_does():
    def masked(text):
        return "?" * len(text[:3]) + text[3:]

    gold, written = ["wet, lamp on"] * 3, ["dry, lamp on", "wet, lamp of", ""]
    found = score_transitions(Answered([""] * 3, gold, written), masked)
    shares = {share.name: share for share in found}
    assert shares["exact_match"].above.tolist() == [1, 0, 0]
    assert shares["in_place"].value == pytest.approx((12 + 11 + 0) / 36)
    assert scored("transitions", gold, written)["exact_match"].above.tolist() == [0, 0, 0]


def test_settings_that_do_nothing_are_refused(tmp_path):
    with pytest.raises(UsageError, match="--reading does nothing for the task text"):
        score_of("text", "letter")
    with pytest.raises(UsageError, match="--databases does nothing for the task regex"):
        score_of("regex", databases=tmp_path)
    with pytest.raises(UsageError, match="no folder"):
        score_of("spider", databases=tmp_path / "none")


@pytest.mark.parametrize("task", SCORES)
def test_an_empty_answer_is_wrong_in_every_task(task):
    gold = {"gsm8k": "#### 1", "regex": "a", "spider": "SELECT 1"}.get(task, "A")
    for share in scored(task, [gold], [""]).values():
        assert share.value == float(share.name == "malformed" or "error" in share.name)


def test_a_pronunciation_is_right_when_it_is_one_of_the_right_ones():
    gold = ["R EH1 D; R IY1 D", "K AE1 T", "K AE1 T", "D AO1 G"]
    written = ["R IY1 D", "K AE0 T", "K T", ""]
    shares = scored("g2p", gold, written)
    assert shares["word_error"].above.tolist() == [0, 1, 1, 1]
    assert shares["word_error_unstressed"].above.tolist() == [0, 0, 1, 1]
    # one replaced, one deleted, three deleted, of 3 phonemes each
    assert shares["phoneme_error"].value == pytest.approx(5 / 12)


def test_the_phoneme_error_is_that_of_the_nearest_answer():
    # of 4 phonemes 1 is missing, of 2 there is 1 too many
    assert scored("g2p", ["A B C D; A B"], ["A B C"])["phoneme_error"].value == 1 / 4


@pytest.mark.parametrize(
    ("wanted", "found", "distance"),
    [("", "", 0), ("a b c", "a b c", 0), ("a b c", "", 3), ("", "a", 1), ("k i t t e n", "s i t t i n g", 3)],
)
def test_the_edit_distance_counts_inserted_deleted_and_replaced_symbols(wanted, found, distance):
    assert edit_distance(wanted.split(), found.split()) == distance
    assert edit_distance(found.split(), wanted.split()) == distance


@pytest.mark.parametrize(
    ("word", "inflection"),
    [("cats", True), ("cat's", True), ("cated", True), ("walk", True), ("cat", False), ("dogs", False)],
)
def test_words_that_inflect_a_training_word_count_apart(word, inflection):
    shares = scored("g2p", ["A"] * 2, ["B"] * 2, [word, "zzz"], known={"cat", "walking"})
    assert shares["inflected"].value == inflection / 2
    assert shares["word_error_uninflected"].below.sum() == 2 - inflection
