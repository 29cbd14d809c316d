"""Meanings that a sentence and an expression can both say, and how they are drawn.

The productions are those of Locascio et al. 2016 (arXiv 1608.03000, table 1), with two differences. Every
sentence has one meaning: what binds looser than its place allows is drawn only between `either ... or` or
`both ... and`. And clauses are joined with clauses, things with things, so that nothing reads `containing
ending with`. How often each operator occurs, and how many occur together, is fitted to the published pairs.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

WORDS = ("dog", "truck", "ring", "lake")
"""Quoted words, in the order in which a sentence names them."""
KINDS = ("number", "capital", "lower", "letter", "vowel", "character")


@dataclass(frozen=True)
class Word:
    """A quoted word."""

    text: str


@dataclass(frozen=True)
class Kind:
    """One character of a kind."""

    name: str


@dataclass(frozen=True)
class FollowedBy:
    """The first, then anything, then the second, then anything; of literals."""

    first: Literal
    second: Literal


@dataclass(frozen=True)
class Repeated:
    """The part, `least` or more times."""

    part: Meaning
    least: int


@dataclass(frozen=True)
class OnePart:
    """An operator on one part."""

    part: Meaning


@dataclass(frozen=True)
class Joined:
    """An operator on several parts."""

    parts: tuple[Meaning, ...]
    bracketed: bool = False


class Not(OnePart):
    """Anything but the part."""


class And(Joined):
    """All parts at once; `bracketed` ones say `both`."""


class Or(Joined):
    """Any of the parts; `bracketed` ones say `either`."""


@dataclass(frozen=True)
class Before:
    """The first, somewhere later the second."""

    first: Meaning
    second: Meaning


class Containing(OnePart):
    """Somewhere the part."""


class StartingWith(OnePart):
    """First the part."""


class EndingWith(OnePart):
    """Last the part."""


class ContainingOnly(OnePart):
    """Nothing but the part."""


class Words(OnePart):
    """The part, between the edges of words."""


Literal = Word | Kind
Clause = Containing | StartingWith | EndingWith | ContainingOnly | Words
Meaning = Literal | FollowedBy | Repeated | Not | And | Or | Before | Clause

Choice = TypeVar("Choice")

_SIZES = {1: 2, 2: 54, 3: 41, 4: 3}
"""How many operators a sentence has, and how often in a hundred."""
_LEAST = {0: 9, 1: 9, 2: 3.5, 3: 3.5, 4: 3.5, 5: 3.5, 6: 3.5, 7: 3.5}
"""How often each repetition is drawn."""
_WORD_WEIGHT = 3
"""How much more often than one kind of character a word is drawn."""

# From loosest to tightest; an operand is drawn at least as tight as its operator asks.
_BEFORE, _OR, _AND, _NOT, _REPEATED, _ATOM = range(6)
_MOST_OPERATORS = {_BEFORE: 9, _OR: 9, _AND: 7, _NOT: 3, _REPEATED: 2, _ATOM: 1}
_THINGS = {
    "before": (_BEFORE, 56.0),
    "or": (_OR, 22.0),
    "and": (_AND, 18.0),
    "and list": (_AND, 4.0),
    "not": (_NOT, 10.0),
    "repeated": (_REPEATED, 30.0),
    "followed": (_ATOM, 10.0),
    "either": (_ATOM, 7.0),
    "both": (_ATOM, 1.0),
}
"""How tightly each operator on things binds, and how often it is drawn."""
_SENTENCES = {"thing": 34.0, "not thing": 10.0, "clause": 24.0, "not clause": 6.0, "words": 20.0, "two": 12.0}
_CLAUSES: tuple[type[Clause], ...] = (Containing, StartingWith, EndingWith, ContainingOnly)
_CLAUSE_WEIGHTS = (12.0, 7.0, 7.0, 2.0)


def draw(seed: int, index: int) -> Meaning:
    """The meaning of one sentence: a pure function of seed and index."""
    return _Drawing(random.Random(f"{seed} {index}")).sentence()


@dataclass
class _Drawing:
    """One sentence in the making; no literal occurs in it twice."""

    rng: random.Random
    kinds: list[str] = field(default_factory=lambda: list(KINDS))
    words: list[str] = field(default_factory=lambda: list(WORDS))

    def sentence(self) -> Meaning:
        operators = self.pick(_SIZES)
        least = {"thing": 1, "two": 3}
        form = self.pick(
            {form: weight for form, weight in _SENTENCES.items() if operators >= least.get(form, 2)}
        )
        match form:
            case "thing":
                return self.thing(operators, _BEFORE, within="not")
            case "not thing":
                return Not(self.thing(operators - 1, _BEFORE, within="not"))
            case "clause":
                return self.clause(operators)
            case "not clause":
                return Not(self.clause(operators - 1))
            case "words":
                return self.with_words(operators)
            case _:
                return self.two_clauses(operators)

    def two_clauses(self, operators: int) -> Meaning:
        first = 1 + self.rng.randrange(operators - 2)
        clauses = []
        for count in (first, operators - 1 - first):
            negated = count > 1 and self.rng.random() < 0.25
            clause = self.clause(count - negated)
            clauses.append(Not(clause) if negated else clause)
        joined = And if self.rng.random() < 0.5 else Or
        return joined(tuple(clauses))

    def with_words(self, operators: int) -> Meaning:
        if operators > 2 and self.rng.random() < 0.1:
            return Not(self.with_words(operators - 1))
        if self.rng.random() < 0.4:
            return Words(self.clause(operators - 1))
        return Words(self.thing(operators - 1, _BEFORE))

    def clause(self, operators: int) -> Clause:
        kind = self.rng.choices(_CLAUSES, _CLAUSE_WEIGHTS)[0]
        return kind(self.thing(operators - 1, _BEFORE))

    def thing(self, operators: int, loosest: int, within: str = "") -> Meaning:
        """A thing of so many operators, none looser than `loosest`, and not the one it stands in on top."""
        if operators == 0:
            return self.literal()
        name = self.pick(
            {
                name: weight
                for name, (binding, weight) in _THINGS.items()
                if binding >= loosest and name != within and _holds(name, operators)
            }
        )
        match name:
            case "followed":
                return FollowedBy(self.literal(), self.literal())
            case "either":
                return Or(self.literals(2 + (self.rng.random() < 0.8)), bracketed=True)
            case "both":
                return And(self.literals(2), bracketed=True)
            case "and list":
                return And(self.literals(3))
            case "repeated":
                return Repeated(self.thing(operators - 1, _ATOM), self.pick(_LEAST))
            case "not":
                return Not(self.thing(operators - 1, _REPEATED))
            case "and":
                return And(self.two(operators - 1, _NOT, _NOT, "both"))
            case "or":
                return Or(self.two(operators - 1, _AND, _AND, "either"))
            case _:
                return Before(*self.two(operators - 1, _OR, _BEFORE, ""))

    def two(self, operators: int, first: int, second: int, within: str) -> tuple[Meaning, Meaning]:
        counts = [
            count
            for count in range(operators + 1)
            if count <= _MOST_OPERATORS[first] and operators - count <= _MOST_OPERATORS[second]
        ]
        count = self.rng.choice(counts)
        return self.thing(count, first, within), self.thing(operators - count, second, within)

    def literals(self, count: int) -> tuple[Literal, ...]:
        return tuple(self.literal() for _ in range(count))

    def literal(self) -> Literal:
        weight = _WORD_WEIGHT if self.words else 0
        place = self.rng.randrange(len(self.kinds) + weight)
        return Kind(self.kinds.pop(place)) if place < len(self.kinds) else Word(self.words.pop(0))

    def pick(self, weights: Mapping[Choice, float]) -> Choice:
        return self.rng.choices(list(weights), list(weights.values()))[0]


def _holds(name: str, operators: int) -> bool:
    """Whether an operator of this name can stand over so many, itself among them."""
    binding, _ = _THINGS[name]
    return operators == 1 if binding == _ATOM or name == "and list" else operators <= _MOST_OPERATORS[binding]
