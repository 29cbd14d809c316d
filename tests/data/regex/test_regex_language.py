import contextlib
import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jepalm.data.regex.automaton import language
from jepalm.data.regex.syntax import (
    Boundary,
    Characters,
    Complement,
    Concatenation,
    ExpressionTooLargeError,
    Intersection,
    MalformedExpressionError,
    Repetition,
    Tree,
    Union,
    parse,
)

ATOMS = ["a", "b", "_", " ", ".", "[ab]", "[^a]", "[A-Za-z]", "ab", "()", r"\w", r"\D"]
LINES = st.text("abZ_ 0", max_size=6)


def expressions(
    atoms: list[str], prefixes: tuple[str, ...], infixes: tuple[str, ...]
) -> st.SearchStrategy[str]:
    def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        repeated = st.tuples(inner, st.sampled_from(["*", "+", "?", "{2,}", "{1,2}", "{2}"]))
        return st.one_of(
            repeated.map(lambda parts: f"({parts[0]}){parts[1]}"),
            st.tuples(st.sampled_from(prefixes), inner).map(lambda parts: f"{parts[0]}({parts[1]})"),
            st.tuples(inner, st.sampled_from(infixes), inner).map("".join),
        )

    return st.recursive(st.sampled_from(atoms), larger, max_leaves=5)


PLAIN = expressions(ATOMS, ("",), ("", "|"))
ALL = expressions([*ATOMS, r"\b"], ("", "~"), ("", "|", "&"))


def spans(tree: Tree, line: str) -> set[tuple[int, int]]:
    """Which pieces of a line a tree matches where they stand, by the definition of each operator."""
    places = range(len(line) + 1)
    nowhere = {(place, place) for place in places}
    match tree:
        case Characters(ranges):
            codes = [ord(symbol) for symbol in line]
            return {(k, k + 1) for k, code in enumerate(codes) if any(a <= code <= b for a, b in ranges)}
        case Boundary():
            word = [False, *(bool(re.match(r"\w", symbol, re.ASCII)) for symbol in line), False]
            return {(k, k) for k in places if word[k] != word[k + 1]}
        case Concatenation(parts):
            found = nowhere
            for part in parts:
                found = after(found, spans(part, line))
            return found
        case Union(parts):
            return set.union(*(spans(part, line) for part in parts))
        case Intersection(parts):
            return set.intersection(*(spans(part, line) for part in parts))
        case Complement(part):
            return {(i, j) for i in places for j in places if i <= j} - spans(part, line)
        case Repetition(part, least, most):
            once, found, times = spans(part, line), nowhere, 0
            total = set(found) if least == 0 else set()
            # Beyond least + length times, only empty pieces are added.
            while times < (least + len(line) + 1 if most is None else most):
                found, times = after(found, once), times + 1
                total |= found if times >= least else set()
            return total
    raise AssertionError(tree)


def after(first: set[tuple[int, int]], second: set[tuple[int, int]]) -> set[tuple[int, int]]:
    return {(i, k) for i, j in first for start, k in second if j == start}


@given(PLAIN, LINES)
@settings(max_examples=200)
def test_membership_is_that_of_the_standard_library(expression: str, line: str):
    assert (line in language(expression)) == bool(re.fullmatch(expression, line, re.ASCII))


@given(ALL, LINES)
@settings(max_examples=200)
@example(r"(\b|a){2,}b", "ab")
@example(r"~(\ba\b)&.*", "a")
@example(r"(~(a\b)| )*b", "a b")
@example("a|b&ab|()", "")
def test_membership_is_that_of_the_definition(expression: str, line: str):
    assert (line in language(expression)) == ((0, len(line)) in spans(parse(expression), line))


@given(ALL, ALL)
@settings(max_examples=100)
def test_laws_of_sets_hold(one: str, other: str):
    assert language(f"~(({one})|({other}))") == language(f"(~({one}))&(~({other}))")
    assert language(f"~~({one})") == language(one)
    assert language(f"({one})&(({one})|({other}))") == language(one)
    assert language(f"({one})&~({one})").empty
    assert language(f"({one})|~({one})").universal


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("~(.*dog.*)", "~(.*(dog).*)&.*"),
        ("(a|b)*", "(a*b*)*"),
        ("a{2,}", "aa+"),
        ("a{2,4}", "aa(a?){2}"),
        ("[A-Za-z]", "[a-z]|[A-Z]"),
        ("[^a]", ".&~a"),
        ("(.*a.*)&(.*b.*)", ".*a.*b.*|.*b.*a.*"),
        (r"\b[a-z]+\b", "[a-z]+"),
        (r"a\bb", "[0-9]&[A-Z]"),
        (r"(\bdog\b)+", "dog"),
        (r"\d", "[0-9]"),
    ],
)
def test_equal_languages_have_one_form(one: str, other: str):
    assert language(one) == language(other)
    assert language(one).fingerprint == language(other).fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("dog", "(dog)*"),
        ("~(.*dog.*)", "~(dog)"),
        ("(dog){6,}", "(dog){7,}"),
        ("[a-z]", "[a-y]"),
        (".*a.*b.*", ".*b.*a.*"),
        (r"\b.*\b", ".*"),
        ("x", "y"),
        ("()", "[0-9]&[A-Z]"),
    ],
)
def test_different_languages_differ(one: str, other: str):
    assert language(one) != language(other)
    assert language(one).fingerprint != language(other).fingerprint


def test_complement_binds_to_the_next_atom_and_concatenation_before_intersection_before_union():
    assert language("~ab") == language("(~(a))b")
    assert language("~a*") == language("(~(a))*")
    assert language("ab&a.") == language("(ab)&(a.)")
    assert language("a|b&c") == language("a|(b&c)") != language("(a|b)&c")


def test_automaton_is_minimal():
    assert language("(dog){2,}").table == language("dogdog(dog)*").table
    assert len(language(".*a.*").accepting) == 2
    assert len(language("(a|b)*abb").accepting) == 5  # four states and one for other characters


def test_degenerate_languages_are_known():
    assert language("[0-9]&[A-Z]").empty
    assert language("~(.*)").empty
    assert language("(.*)*|dog").universal
    assert not language("()").degenerate
    assert not language(".").degenerate


def test_word_boundary_can_be_read_as_a_letter():
    assert "dog" in language(r"\bdog\b")
    assert "a dog!" in language(r"a \bdog\b!")
    assert "bdogb" not in language(r"\bdog\b")
    assert language(r"\bdog\b", "letter") == language("bdogb")
    assert "b" in language(r"\\b|b")


def test_newline_is_in_no_line():
    assert "\n" not in language(".*|[^a]")
    assert "a\n" not in language("a~(b)")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("(a", r"'\(' is not closed"),
        ("a)", r"'\)' closes nothing at character 2"),
        ("*a", "'\\*' repeats nothing"),
        ("a**", "repeats a repetition"),
        ("a||b", "nothing to match"),
        ("a&", "nothing to match"),
        ("~", "nothing to match"),
        ("~*", r"'\*' repeats nothing"),
        ("[a", "not closed"),
        ("[]", "empty set"),
        ("[z-a]", "no range"),
        ("a{", "no number"),
        ("a{x,}", "no number"),
        ("a{,}", "no number"),
        ("a{3,2}", "at least 3 and at most 2"),
        ("^a$", "stands for nothing"),
        ("a\\", "backslash before nothing"),
        (r"\q", "stands for nothing"),
        ("(?:a)", "repeats nothing"),
        ("a\nb", "stands for nothing"),
    ],
)
def test_malformed_expressions_say_what_is_wrong(text: str, why: str):
    with pytest.raises(MalformedExpressionError, match=why):
        parse(text)


@given(st.text("ab.*+?|&~()[]{},^-\\b$01", max_size=12))
@settings(max_examples=200)
def test_any_text_is_an_expression_or_malformed(text: str):
    with contextlib.suppress(MalformedExpressionError, ExpressionTooLargeError):
        assert language(text).accepting


@pytest.mark.parametrize(
    "text",
    [
        "(.*a.{20}){3,}",
        "(.*a.*|.*b.*){1000}",
        "~(.*a.{15}.*b.{13})",
        "a?" * 500 + "b",
        "(" * 60 + "a" + ")" * 60,
        "~" * 60 + "a",
        "a" * 1001,
        "a{1001}",
    ],
)
def test_pathological_expressions_are_refused_soon(text: str):
    started = time.process_time()
    with pytest.raises(ExpressionTooLargeError):
        language(text)
    assert time.process_time() - started < 10
