import pytest

from jepalm.data.prepared import SPLITS, Drawn
from jepalm.data.regex.automaton import language
from jepalm.data.regex.grammar import (
    And,
    Before,
    Containing,
    ContainingOnly,
    EndingWith,
    FollowedBy,
    Kind,
    Meaning,
    Not,
    Or,
    Repeated,
    StartingWith,
    Word,
    Words,
    draw,
)
from jepalm.data.regex.pairs import DrawnPairs, draw_pairs, split_of
from jepalm.data.regex.saying import english, expression
from jepalm.errors import UsageError

DOG, TRUCK, RING = Word("dog"), Word("truck"), Word("ring")
NUMBER, CAPITAL, LOWER, LETTER = Kind("number"), Kind("capital"), Kind("lower"), Kind("letter")
VOWEL, CHARACTER = Kind("vowel"), Kind("character")
SPLIT = (80.0, 10.0, 10.0)


@pytest.mark.parametrize(
    ("meaning", "sentence", "written", "inside", "outside"),
    [
        (DOG, "lines with the string 'dog'", "dog", "dog", "dogs"),
        (NUMBER, "lines with a number", "[0-9]", "7", "a"),
        (CAPITAL, "lines with a capital letter", "[A-Z]", "Q", "q"),
        (LOWER, "lines with a lower-case letter", "[a-z]", "q", "Q"),
        (LETTER, "lines with a letter", "[A-Za-z]", "Q", "7"),
        (VOWEL, "lines with a vowel", "[AEIOUaeiou]", "E", "y"),
        (CHARACTER, "lines with a character", ".", "-", ""),
        (
            FollowedBy(DOG, NUMBER),
            "lines with the string 'dog' followed by a number",
            "dog.*[0-9].*",
            "dog 7",
            "7",
        ),
        (Repeated(DOG, 0), "lines with the string 'dog', zero or more times", "(dog)*", "", "do"),
        (Repeated(DOG, 1), "lines with the string 'dog' at least once", "(dog)+", "dogdog", ""),
        (Repeated(VOWEL, 3), "lines with a vowel, 3 or more times", "([AEIOUaeiou]){3,}", "aeio", "ae"),
        (Not(DOG), "lines not having the string 'dog'", "~(dog)", "cat", "dog"),
        (And((LETTER, VOWEL)), "lines with a letter and a vowel", "([A-Za-z])&([AEIOUaeiou])", "a", "b"),
        (
            And((LETTER, VOWEL, LOWER)),
            "lines with a letter, a vowel, and a lower-case letter",
            "([A-Za-z])&([AEIOUaeiou])&([a-z])",
            "a",
            "A",
        ),
        (Or((DOG, NUMBER)), "lines with the string 'dog' or a number", "(dog)|([0-9])", "7", "dog7"),
        (
            Or((DOG, TRUCK, NUMBER), bracketed=True),
            "lines with either the string 'dog', the string 'truck', or a number",
            "(dog)|(truck)|([0-9])",
            "truck",
            "dogtruck",
        ),
        (
            Before(DOG, NUMBER),
            "lines with the string 'dog' before a number",
            "(dog).*([0-9]).*",
            "dog: 7",
            "7",
        ),
        (Containing(DOG), "lines containing the string 'dog'", ".*dog.*", "a dog!", "a god"),
        (
            Containing(Or((DOG, NUMBER))),
            "lines containing the string 'dog' or a number",
            ".*((dog)|([0-9])).*",
            "a 7!",
            "a god",
        ),
        (StartingWith(DOG), "lines starting with the string 'dog'", "(dog)(.*)", "dogs", "a dog"),
        (EndingWith(DOG), "lines ending with the string 'dog'", "(.*)(dog)", "a dog", "dogs"),
        (ContainingOnly(DOG), "lines containing only the string 'dog'", "dog", "dog", "dogs"),
        (Words(DOG), "lines with words with the string 'dog'", r"\bdog\b", "dog", "a dog"),
        (
            Words(And((LETTER, VOWEL))),
            "lines with words with a letter and a vowel",
            r"\b(([A-Za-z])&([AEIOUaeiou]))\b",
            "a",
            "b",
        ),
        (
            Words(Containing(DOG)),
            "lines with words containing the string 'dog'",
            r"\b.*dog.*\b",
            "a dog",
            "dog!",
        ),
        (
            Not(Words(StartingWith(DOG))),
            "lines not having words starting with the string 'dog'",
            r"~(\b(dog)(.*)\b)",
            "a dog",
            "dogs",
        ),
        (Not(Containing(DOG)), "lines not containing the string 'dog'", "~(.*dog.*)", "god", "dogs"),
        (
            And((StartingWith(DOG), Not(EndingWith(NUMBER)))),
            "lines starting with the string 'dog' and not ending with a number",
            "((dog)(.*))&(~((.*)([0-9])))",
            "dogs",
            "dog 7",
        ),
    ],
)
def test_operator_in_english_as_expression_and_as_language(
    meaning: Meaning, sentence: str, written: str, inside: str, outside: str
):
    assert english(meaning) == sentence
    assert expression(meaning) == written
    assert inside in language(written)
    assert outside not in language(written)


def test_brackets_are_said_where_the_operand_binds_looser():
    tight = Repeated(Or((DOG, NUMBER), bracketed=True), 3)
    assert english(tight) == "lines with either the string 'dog' or a number, 3 or more times"
    loose = Or((DOG, Repeated(NUMBER, 3)))
    assert english(loose) == "lines with the string 'dog' or a number, 3 or more times"
    assert language(expression(tight)) != language(expression(loose))


def test_no_sentence_has_two_meanings():
    known: dict[str, str] = {}
    for index in range(5_000):
        meaning = draw(0, index)
        sentence = english(meaning)
        assert known.setdefault(sentence, expression(meaning)) == expression(meaning), sentence
    assert len(known) > 3_000


def test_a_draw_depends_on_seed_and_index_alone():
    drawn = [draw(3, index) for index in range(50)]
    assert [draw(3, index) for index in reversed(range(50))] == drawn[::-1]
    assert [draw(4, index) for index in range(50)] != drawn


def test_draws_and_fingerprints_are_those_of_every_version():
    assert english(draw(0, 2)) == "lines not having a number before a character"
    assert language("dog").fingerprint == 0x2C8F30774F4AB33


def rows_by_split(found: DrawnPairs) -> dict[str, list[tuple[str, str]]]:
    pairs = iter([(row.source, row.target) for _, [row] in found.read()])
    return {name: [next(pairs) for _ in found.indices[name]] for name in SPLITS}


@pytest.mark.parametrize("keep_degenerate", [False, True])
def test_no_language_is_in_two_splits(keep_degenerate: bool):
    found = draw_pairs(Drawn(pairs=300, seed=5, keep_degenerate=keep_degenerate), SPLIT)
    rows = rows_by_split(found)
    assert [len(rows[name]) for name in SPLITS] == [240, 30, 30]
    sources = [source for name in SPLITS for source, _ in rows[name]]
    assert len(set(sources)) == 300
    languages = {name: {language(target) for _, target in rows[name]} for name in SPLITS}
    assert not languages["train"] & languages["test"]
    assert not languages["train"] & languages["validation"]
    assert not languages["validation"] & languages["test"]
    degenerate = {name: any(found.degenerate for found in languages[name]) for name in SPLITS}
    assert degenerate == {"train": keep_degenerate, "validation": False, "test": False}
    assert found.degenerate > 30


def test_held_out_languages_stay_held_out_under_another_seed_and_size():
    one = rows_by_split(draw_pairs(Drawn(pairs=100, seed=1), SPLIT))
    other = rows_by_split(draw_pairs(Drawn(pairs=150, seed=2), SPLIT))
    assert not {language(target) for _, target in one["test"]} & {
        language(target) for _, target in other["train"]
    }


def test_a_larger_test_share_keeps_the_test_languages():
    drawn = {language(expression(draw(0, index))) for index in range(200)}
    small = {found for found in drawn if split_of(found, (90.0, 5.0, 5.0)) == "test"}
    large = {found for found in drawn if split_of(found, (60.0, 20.0, 20.0)) == "test"}
    assert small
    assert small < large


def test_the_grammar_runs_out_with_one_clear_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("jepalm.data.regex.pairs.MOST_IN_VAIN", 100)
    monkeypatch.setattr("jepalm.data.regex.pairs.draw", lambda seed, index: draw(seed, index % 50))
    with pytest.raises(UsageError, match=r"no more pairs for train .*after \d+ in all"):
        draw_pairs(Drawn(pairs=200, seed=0), SPLIT)


def test_too_few_pairs_for_three_splits():
    with pytest.raises(UsageError, match="too few"):
        draw_pairs(Drawn(pairs=2, seed=0), SPLIT)
