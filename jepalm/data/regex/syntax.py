r"""Reading regular expressions with `&` and `~` into trees.

The dialect of Locascio et al. 2016 (arXiv 1608.03000), whose expressions are of the automaton library
dk.brics.automaton: an expression describes a whole line; `~` binds to the next atom and tighter than a
repetition, which binds tighter than concatenation, then `&`, then `|`.

The published generator means a word boundary where it writes `\b`; dk.brics.automaton, by which its pairs
were scored, reads the letter b. Both readings are offered.

Read are characters, `.`, `(...)`, `[...]`, `|`, `&`, `~`, `*`, `+`, `?`, `{n}`, `{n,}`, `{,m}`, `{n,m}`,
`\d`, `\w`, `\s`, their complements, `\b`, and a backslash before a character that is no letter or digit.
Anchors, groups with options and back references are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jepalm.errors import UsageError

LONGEST = 1000
"""Characters of an expression."""
DEEPEST = 50
"""Parentheses and complements within each other."""
MOST_REPEATS = 1000
LAST = 0x10FFFF
_NEWLINE = 0x0A
_ESCAPED = {
    "d": ((48, 57),),
    "w": ((48, 57), (65, 90), (95, 95), (97, 122)),
    "s": ((9, 9), (11, 13), (32, 32)),
}
WORD = _ESCAPED["w"]

Ranges = tuple[tuple[int, int], ...]
"""Code points from-to, both included, in order and apart; never a newline."""
Reading = Literal["boundary", "letter"]
"""What a `\\b` is: the edge of a word, or the letter b."""


class MalformedExpressionError(UsageError):
    """A text that is no expression of this dialect."""


class ExpressionTooLargeError(UsageError):
    """An expression whose automaton is too much work."""


@dataclass(frozen=True)
class Characters:
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True)
class Boundary:
    r"""`\b`: nothing, where exactly one of its two neighbours is a letter, digit or underscore."""


@dataclass(frozen=True)
class Parts:
    """An operator on several parts."""

    parts: tuple[Tree, ...]


class Concatenation(Parts):
    """One part after the other; the empty text when there is none."""


class Union(Parts):
    """Any of the parts."""


class Intersection(Parts):
    """All of the parts at once."""


@dataclass(frozen=True)
class Complement:
    """Every text that the part does not describe."""

    part: Tree


@dataclass(frozen=True)
class Repetition:
    """`least` to `most` times the part; without end when `most` is empty."""

    part: Tree
    least: int
    most: int | None


Tree = Characters | Boundary | Concatenation | Union | Intersection | Complement | Repetition


def parse(text: str, reading: Reading = "boundary") -> Tree:
    r"""Read one expression.

    Args:
        text: the expression.
        reading: of a `\b`.

    Raises:
        MalformedExpressionError: says what is wrong, and at which character.
        ExpressionTooLargeError: too long or nested too deep.
    """
    if len(text) > LONGEST:
        raise ExpressionTooLargeError(f"an expression of more than {LONGEST:,} characters")
    if not text:
        raise MalformedExpressionError("an empty expression", "() describes the empty text")
    reader = _Reader(text, reading)
    tree = reader.union()
    if reader.place < len(text):
        raise reader.wrong(f"{text[reader.place]!r} closes nothing")
    return tree


def includes(ranges: Ranges, code: int) -> bool:
    """Whether a code point is in a set."""
    return any(first <= code <= last for first, last in ranges)


def merged(ranges: list[tuple[int, int]]) -> Ranges:
    """Put ranges in order, join those that touch, and leave the newline out."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    cut: list[tuple[int, int]] = []
    for first, last in joined:
        if first <= _NEWLINE <= last:
            cut += [(first, _NEWLINE - 1), (_NEWLINE + 1, last)]
        else:
            cut.append((first, last))
    return tuple((first, last) for first, last in cut if first <= last)


def others(ranges: Ranges) -> Ranges:
    """Every other character; a newline is in neither."""
    gaps, start = [], 0
    for first, last in ranges:
        gaps.append((start, first - 1))
        start = last + 1
    gaps.append((start, LAST))
    return merged([(first, last) for first, last in gaps if first <= last])


ANY = Characters(others(()))


class _Reader:
    """Recursive descent, loosest operator first."""

    def __init__(self, text: str, reading: Reading) -> None:
        self.text = text
        self.reading = reading
        self.place = 0
        self.depth = 0

    def wrong(self, what: str) -> MalformedExpressionError:
        return MalformedExpressionError(f"{what} at character {self.place + 1}")

    def taken(self, symbol: str) -> bool:
        if self.text.startswith(symbol, self.place):
            self.place += len(symbol)
            return True
        return False

    def next(self) -> str:
        return self.text[self.place] if self.place < len(self.text) else ""

    def union(self) -> Tree:
        return self.joined("|", Union, self.intersection)

    def intersection(self) -> Tree:
        return self.joined("&", Intersection, self.concatenation)

    def joined(self, symbol: str, kind: type[Union | Intersection], operand: Callable[[], Tree]) -> Tree:
        parts = [operand()]
        while self.taken(symbol):
            parts.append(operand())
        return parts[0] if len(parts) == 1 else kind(tuple(parts))

    def concatenation(self) -> Tree:
        parts: list[Tree] = []
        while self.next() not in ("", "|", "&", ")"):
            parts.append(self.repetition())
        if not parts:
            raise self.wrong("nothing to match")
        return parts[0] if len(parts) == 1 else Concatenation(tuple(parts))

    def repetition(self) -> Tree:
        tree = self.complement()
        while (symbol := self.next()) and symbol in "*+?{":
            if isinstance(tree, Repetition) and self.text[self.place - 1] != ")":
                raise self.wrong(f"{symbol!r} repeats a repetition")
            least, most = self.counts()
            tree = Repetition(tree, least, most)
        return tree

    def counts(self) -> tuple[int, int | None]:
        symbol = self.next()
        self.place += 1
        if symbol != "{":
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[symbol]
        end = self.text.find("}", self.place)
        low, comma, high = self.text[self.place : max(end, self.place)].partition(",")
        numbers = [int(number) for number in (low, high) if number.isascii() and number.isdigit()]
        if end < 0 or len(numbers) != bool(low) + bool(high) or not numbers:
            raise self.wrong("no number of repetitions")
        if max(numbers) > MOST_REPEATS:
            raise ExpressionTooLargeError(f"more than {MOST_REPEATS:,} repetitions")
        least = int(low or 0)
        most = int(high) if high else None if comma else least
        if most is not None and most < least:
            raise self.wrong(f"at least {least} and at most {most} repetitions")
        self.place = end + 1
        return least, most

    def complement(self) -> Tree:
        if not self.taken("~"):
            return self.atom()
        self.deeper()
        tree = Complement(self.complement())
        self.depth -= 1
        return tree

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise ExpressionTooLargeError(f"nested more than {DEEPEST} deep")

    def atom(self) -> Tree:
        symbol = self.next()
        if not symbol or symbol in "|&)":
            raise self.wrong("nothing to match")
        if symbol in "*+?{":
            raise self.wrong(f"{symbol!r} repeats nothing")
        if symbol in "]}^$\n":
            raise self.wrong(f"{symbol!r} stands for nothing here")
        self.place += 1
        if symbol == "(":
            return self.group()
        if symbol == "[":
            return Characters(self.bracket())
        if symbol == ".":
            return ANY
        if symbol == "\\":
            return self.edge() if self.taken("b") else Characters(self.escape())
        return Characters(((ord(symbol), ord(symbol)),))

    def edge(self) -> Tree:
        return Boundary() if self.reading == "boundary" else Characters(((ord("b"), ord("b")),))

    def group(self) -> Tree:
        if self.taken(")"):
            return Concatenation(())
        self.deeper()
        tree = self.union()
        if not self.taken(")"):
            raise self.wrong("'(' is not closed")
        self.depth -= 1
        return tree

    def escape(self) -> Ranges:
        symbol = self.next()
        if not symbol or symbol == "\n":
            raise self.wrong("a backslash before nothing")
        self.place += 1
        if symbol.lower() in _ESCAPED:
            return _ESCAPED[symbol] if symbol.islower() else others(_ESCAPED[symbol.lower()])
        if symbol.isalnum():
            self.place -= 1
            raise self.wrong(f"\\{symbol} stands for nothing here")
        return ((ord(symbol), ord(symbol)),)

    def bracket(self) -> Ranges:
        negated = self.taken("^")
        ranges: list[tuple[int, int]] = []
        while not self.taken("]"):
            first = self.member()
            if self.next() == "-" and not self.text.startswith("-]", self.place):
                self.place += 1
                last = self.member()
                if (
                    len(first) != 1
                    or len(last) != 1
                    or first[0][0] != first[0][1]
                    or last[0][0] < first[0][0]
                ):
                    raise self.wrong("no range of characters")
                ranges.append((first[0][0], last[0][1]))
            else:
                ranges += first
        if not ranges:
            raise self.wrong("an empty set of characters")
        found = merged(ranges)
        return others(found) if negated else found

    def member(self) -> Ranges:
        symbol = self.next()
        if not symbol or symbol in "[\n":
            raise self.wrong("'[' is not closed" if symbol != "[" else "'[' within a set of characters")
        self.place += 1
        return self.escape() if symbol == "\\" else ((ord(symbol), ord(symbol)),)
