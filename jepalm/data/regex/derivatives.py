r"""Derivatives of expressions: what may follow a character in the lines of one (Brzozowski 1964).

"Derivatives of regular expressions" know `&` and `~` as easily as `|`. `\b` makes a derivative depend on the
character before it, and its nullability on both neighbours (as in Moseley et al. 2023, "Derivative based
nonbacktracking real-world regex matching with backtracking semantics").
"""

from __future__ import annotations

from jepalm.data.regex.syntax import (
    WORD,
    Boundary,
    Characters,
    Complement,
    Concatenation,
    ExpressionTooLargeError,
    Intersection,
    Ranges,
    Repetition,
    Tree,
    Union,
    includes,
)

MOST_WORK = 2_000_000
"""Derivatives asked for and parts joined; the published pairs need at most a quarter of it."""

_ALWAYS = 0b1111
"""Nullable whatever the neighbours: bit 2 * before + after, where 1 is a letter, digit or underscore."""
_AT_A_BOUNDARY = 0b0110


class Terms:
    """Terms of one expression and its derivatives, each kept once and known by its number.

    The rules that simplify a new term (associativity, commutativity and idempotence of `|` and `&`, and
    the neutral and absorbing elements) keep the derivatives finitely many.
    """

    def __init__(self, classes: list[Ranges]) -> None:
        self.classes = classes
        self.is_word = [includes(WORD, ranges[0][0]) for ranges in classes]
        self.terms: list[tuple[object, ...]] = []
        self.nullable: list[int] = []
        self.has_boundary: list[bool] = []
        self._number: dict[tuple[object, ...], int] = {}
        self._derived: dict[tuple[int, int, int], int] = {}
        self._work = 0
        self.full = (1 << len(classes)) - 1
        self.nothing = self._keep(("set", 0), 0, False)
        self.epsilon = self._keep(("epsilon",), _ALWAYS, False)
        self.everything = self._keep(("not", self.nothing), _ALWAYS, False)

    def _keep(self, term: tuple[object, ...], nullable: int, has_boundary: bool) -> int:
        number = self._number.get(term)
        if number is None:
            number = self._number[term] = len(self.terms)
            self.terms.append(term)
            self.nullable.append(nullable)
            self.has_boundary.append(has_boundary)
        return number

    def _count(self, work: int) -> None:
        self._work += work
        if self._work > MOST_WORK:
            raise ExpressionTooLargeError("an automaton that takes too much work")

    def of(self, tree: Tree) -> int:
        """The term of a tree."""
        match tree:
            case Characters(ranges):
                members = (includes(ranges, found[0][0]) for found in self.classes)
                return self.characters(sum(1 << place for place, member in enumerate(members) if member))
            case Boundary():
                return self._keep(("boundary",), _AT_A_BOUNDARY, True)
            case Concatenation(parts):
                term = self.epsilon
                for part in reversed(parts):
                    term = self.concatenation(self.of(part), term)
                return term
            case Union(parts):
                return self.union([self.of(part) for part in parts])
            case Intersection(parts):
                return self.intersection([self.of(part) for part in parts])
            case Complement(part):
                return self.complement(self.of(part))
            case Repetition(part, least, most):
                return self.repetition(self.of(part), least, most)

    def characters(self, members: int) -> int:
        """One character of these classes."""
        return self._keep(("set", members), 0, False)

    def concatenation(self, first: int, second: int) -> int:
        """One after the other, bracketed to the right."""
        parts = []
        while self.terms[first][0] == "then":
            parts.append(self.terms[first][1])
            first = self.terms[first][2]  # type: ignore[assignment]
        parts.append(first)
        for part in reversed(parts):
            second = self._then(part, second)  # type: ignore[arg-type]
        return second

    def _then(self, first: int, second: int) -> int:
        if first == self.epsilon:
            return second
        if second == self.epsilon:
            return first
        if self.nothing in (first, second):
            return self.nothing
        # Before or after everything, what may be empty adds nothing.
        if first == self.everything and self.nullable[second] == _ALWAYS:
            return first
        if second == self.everything and self.nullable[first] == _ALWAYS:
            return second
        if first == self.everything and self.terms[second][:2] == ("then", first):
            return second
        return self._keep(
            ("then", first, second),
            self.nullable[first] & self.nullable[second],
            self.has_boundary[first] or self.has_boundary[second],
        )

    def union(self, parts: list[int]) -> int:
        """Any of the parts."""
        return self._joined("or", parts, self.nothing, self.everything)

    def intersection(self, parts: list[int]) -> int:
        """All of the parts."""
        return self._joined("and", parts, self.everything, self.nothing)

    def _joined(self, kind: str, parts: list[int], neutral: int, absorbing: int) -> int:
        found: set[int] = set()
        for part in parts:
            found.update(self.terms[part][1] if self.terms[part][0] == kind else (part,))  # type: ignore[arg-type]
        self._count(len(parts) + len(found))
        found.discard(neutral)
        if absorbing in found:
            return absorbing
        sets = [part for part in found if self.terms[part][0] == "set"]
        if len(sets) > 1:
            members: list[int] = [self.terms[part][1] for part in sets]  # type: ignore[misc]
            both = members[0]
            for other in members[1:]:
                both = both | other if kind == "or" else both & other
            found.difference_update(sets)
            joined = self.characters(both)
            if joined == absorbing:
                return absorbing
            found.add(joined)
        if not found:
            return neutral
        if len(found) == 1:
            return found.pop()
        nullable = 0 if kind == "or" else _ALWAYS
        for part in found:
            nullable = nullable | self.nullable[part] if kind == "or" else nullable & self.nullable[part]
        has_boundary = any(self.has_boundary[part] for part in found)
        return self._keep((kind, tuple(sorted(found))), nullable, has_boundary)

    def complement(self, part: int) -> int:
        """Whatever the part is not."""
        if self.terms[part][0] == "not":
            return self.terms[part][1]  # type: ignore[return-value]
        return self._keep(("not", part), self.nullable[part] ^ _ALWAYS, self.has_boundary[part])

    def repetition(self, part: int, least: int, most: int | None) -> int:
        """The part, `least` to `most` times."""
        if most == 0 or part == self.epsilon:
            return self.epsilon
        if (least, most) == (1, 1):
            return part
        if part == self.nothing:
            return self.nothing if least else self.epsilon
        if self.nullable[part] == _ALWAYS:
            least = 0
        if most is None and least == 0:
            if part == self.everything or self.terms[part] == ("set", self.full):
                return self.everything
            if self.terms[part][0] == "repeat" and self.terms[part][2:] == (0, None):
                return part
        nullable = _ALWAYS if least == 0 else self.nullable[part]
        return self._keep(("repeat", part, least, most), nullable, self.has_boundary[part])

    def derivative(self, term: int, symbol: int, before: int) -> int:
        """What may follow the symbol in lines of the term.

        Args:
            term: its number.
            symbol: a class of characters.
            before: whether the character before is a letter, digit or underscore, 0 or 1.
        """
        self._count(1)
        if not self.has_boundary[term]:
            before = 0
        key = (term, symbol, before)
        if (found := self._derived.get(key)) is None:
            found = self._derived[key] = self._derive(term, symbol, before)
        return found

    def _derive(self, term: int, symbol: int, before: int) -> int:
        match self.terms[term]:
            case ("set", int(members)):
                return self.epsilon if members >> symbol & 1 else self.nothing
            case ("not", int(part)):
                return self.complement(self.derivative(part, symbol, before))
            case ("or", tuple(parts)):
                return self.union([self.derivative(part, symbol, before) for part in parts])
            case ("and", tuple(parts)):
                return self.intersection([self.derivative(part, symbol, before) for part in parts])
            case ("then", int(), int()):
                return self._derive_chain(term, symbol, before)
            case ("repeat", int(part), int(least), most):
                if self._may_be_empty(part, symbol, before):
                    least = 1  # those before this one may be empty
                fewer = most - 1 if isinstance(most, int) else None
                rest = self.repetition(part, max(0, least - 1), fewer)
                return self.concatenation(self.derivative(part, symbol, before), rest)
        return self.nothing  # the empty text, and a boundary, read no character

    def _derive_chain(self, term: int, symbol: int, before: int) -> int:
        ways = []
        while self.terms[term][0] == "then":
            first: int = self.terms[term][1]  # type: ignore[assignment]
            rest: int = self.terms[term][2]  # type: ignore[assignment]
            ways.append(self.concatenation(self.derivative(first, symbol, before), rest))
            if not self._may_be_empty(first, symbol, before):
                return self.union(ways)
            term = rest
        return self.union([*ways, self.derivative(term, symbol, before)])

    def _may_be_empty(self, term: int, symbol: int, before: int) -> bool:
        return bool(self.nullable[term] >> (2 * before + self.is_word[symbol]) & 1)
