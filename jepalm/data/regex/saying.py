"""A meaning as text: its regular expression and its English sentence."""

from __future__ import annotations

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
)

_EXPRESSIONS = {
    "number": "[0-9]",
    "capital": "[A-Z]",
    "lower": "[a-z]",
    "letter": "[A-Za-z]",
    "vowel": "[AEIOUaeiou]",
    "character": ".",
}
_ENGLISH = {
    "number": "a number",
    "capital": "a capital letter",
    "lower": "a lower-case letter",
    "letter": "a letter",
    "vowel": "a vowel",
    "character": "a character",
}
_CLAUSES = (Containing, StartingWith, EndingWith, ContainingOnly, Words)


def expression(meaning: Meaning) -> str:
    """The regular expression, with `&` and `~`, that describes the whole line."""
    match meaning:
        case Word(text):
            return text
        case Kind(name):
            return _EXPRESSIONS[name]
        case FollowedBy(first, second):
            return f"{expression(first)}.*{expression(second)}.*"
        case Repeated(part, least):
            return f"({expression(part)})" + {0: "*", 1: "+"}.get(least, f"{{{least},}}")
        case Not(part):
            return f"~({expression(part)})"
        case And(parts):
            return "&".join(f"({expression(part)})" for part in parts)
        case Or(parts):
            return "|".join(f"({expression(part)})" for part in parts)
        case Before(first, second):
            return f"({expression(first)}).*({expression(second)}).*"
        case Containing(part):
            return f".*{_joined(part)}.*"
        case StartingWith(part):
            return f"({expression(part)})(.*)"
        case EndingWith(part):
            return f"(.*)({expression(part)})"
        case ContainingOnly(part):
            return expression(part)
        case Words(part):
            return rf"\b{_joined(part)}\b"


def english(meaning: Meaning) -> str:
    """The sentence, without its full stop: `lines ...`."""
    if _is_clause(meaning):
        return f"lines {_clause(meaning)}"
    if isinstance(meaning, Not):
        return f"lines not having {_thing(meaning.part)}"
    return f"lines with {_thing(meaning)}"


def _joined(part: Meaning) -> str:
    """The part as a piece of a longer expression: `&` and `|` bind looser than what follows."""
    text = expression(part)
    inner = part.part if isinstance(part, ContainingOnly) else part
    return f"({text})" if isinstance(inner, And | Or) else text


def _is_clause(meaning: Meaning) -> bool:
    if isinstance(meaning, Not):
        return _is_clause(meaning.part)
    if isinstance(meaning, And | Or):
        return _is_clause(meaning.parts[0])
    return isinstance(meaning, _CLAUSES)


def _clause(meaning: Meaning) -> str:
    match meaning:
        case And(parts):
            return " and ".join(_clause(part) for part in parts)
        case Or(parts):
            return " or ".join(_clause(part) for part in parts)
        case Not(Words(part)):
            return f"not having words {_within_words(part)}"
        case Not(part):
            return f"not {_clause(part)}"
        case Words(part):
            return f"with words {_within_words(part)}"
        case Containing(part):
            return f"containing {_thing(part)}"
        case StartingWith(part):
            return f"starting with {_thing(part)}"
        case EndingWith(part):
            return f"ending with {_thing(part)}"
        case ContainingOnly(part):
            return f"containing only {_thing(part)}"
    raise AssertionError(f"{meaning} is no clause")


def _within_words(part: Meaning) -> str:
    return _clause(part) if _is_clause(part) else f"with {_thing(part)}"


def _thing(meaning: Meaning) -> str:
    match meaning:
        case Word(text):
            return f"the string '{text}'"
        case Kind(name):
            return _ENGLISH[name]
        case FollowedBy(first, second):
            return f"{_thing(first)} followed by {_thing(second)}"
        case Repeated(part, least):
            times = {0: ", zero or more times", 1: " at least once"}.get(least, f", {least} or more times")
            return _thing(part) + times
        case Not(part):
            return f"not {_thing(part)}"
        case And(parts, bracketed):
            return ("both " if bracketed else "") + _listed(parts, "and")
        case Or(parts, bracketed):
            return ("either " if bracketed else "") + _listed(parts, "or")
        case Before(first, second):
            return f"{_thing(first)} before {_thing(second)}"
    raise AssertionError(f"{meaning} is no thing")


def _listed(parts: tuple[Meaning, ...], conjunction: str) -> str:
    said = [_thing(part) for part in parts]
    if len(said) == 2:
        return f"{said[0]} {conjunction} {said[1]}"
    return f"{', '.join(said[:-1])}, {conjunction} {said[-1]}"
