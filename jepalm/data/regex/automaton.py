r"""From an expression to the one minimal automaton of its language, so that equal languages compare equal.

States are derivatives, symbols are classes of characters that the expression does not tell apart. The work
is bounded: beyond the bound an expression is refused, never waited for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from jepalm.data.regex.derivatives import Terms
from jepalm.data.regex.syntax import (
    ANY,
    LAST,
    WORD,
    Boundary,
    Characters,
    Complement,
    ExpressionTooLargeError,
    Ranges,
    Reading,
    Repetition,
    Tree,
    includes,
    merged,
    parse,
)

MOST_STATES = 2_000


@dataclass(frozen=True)
class Language:
    """A set of lines, as its minimal deterministic automaton in a form that equal sets share.

    Equality and hash are those of the set of lines.
    """

    classes: tuple[Ranges, ...]
    """Characters that no state tells apart, in order of their first."""
    table: tuple[tuple[int, ...], ...]
    """Next state by state and class; state 0 is the first."""
    accepting: tuple[bool, ...]

    @property
    def empty(self) -> bool:
        """Whether no line belongs to it."""
        return self.accepting == (False,)

    @property
    def universal(self) -> bool:
        """Whether every line belongs to it."""
        return self.accepting == (True,)

    @property
    def degenerate(self) -> bool:
        """Whether it is empty or universal: such an expression says nothing."""
        return len(self.accepting) == 1

    @cached_property
    def fingerprint(self) -> int:
        """64 bits of a hash of the set, the same in every process."""
        text = repr((self.classes, self.table, self.accepting))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")

    def __contains__(self, line: str) -> bool:
        state = 0
        for symbol in line:
            places = (at for at, ranges in enumerate(self.classes) if includes(ranges, ord(symbol)))
            if (found := next(places, None)) is None:
                return False  # a newline
            state = self.table[state][found]
        return self.accepting[state]


def language(expression: str, reading: Reading = "boundary") -> Language:
    r"""The language of an expression.

    Args:
        expression: its text.
        reading: of a `\b`.

    Raises:
        MalformedExpressionError: it is no expression of this dialect.
        ExpressionTooLargeError: its automaton is beyond the bound on work.
    """
    tree = parse(expression, reading)
    classes = _classes(tree)
    table, accepting = _explore(Terms(classes), tree)
    table, accepting = _minimal(table, accepting)
    return _canonical(classes, table, accepting)


def _classes(tree: Tree) -> list[Ranges]:
    """Partition the characters by the sets of the tree they belong to; classes in order of their first."""
    sets = set(_sets(tree)) - {ANY.ranges}
    edges = sorted({edge for ranges in sets for first, last in ranges for edge in (first, last + 1)})
    starts = [0, *(edge for edge in edges if 0 < edge <= LAST)]
    by_members: dict[tuple[bool, ...], list[tuple[int, int]]] = {}
    for start, following in zip(starts, [*starts[1:], LAST + 1], strict=True):
        members = tuple(includes(ranges, start) for ranges in sets)
        by_members.setdefault(members, []).append((start, following - 1))
    found = (merged(ranges) for ranges in by_members.values())
    return [ranges for ranges in found if ranges]


def _sets(tree: Tree) -> list[Ranges]:
    if isinstance(tree, Characters):
        return [tree.ranges]
    if isinstance(tree, Boundary):
        return [WORD]
    parts = (tree.part,) if isinstance(tree, Complement | Repetition) else tree.parts
    return [ranges for part in parts for ranges in _sets(part)]


def _explore(terms: Terms, tree: Tree) -> tuple[list[list[int]], list[bool]]:
    """Every derivative that some line leads to: a deterministic automaton."""
    first = (terms.of(tree), 0)
    number = {first: 0}
    waiting = [first]
    table: list[list[int]] = []
    accepting: list[bool] = []
    for term, before in waiting:
        accepting.append(bool(terms.nullable[term] >> 2 * before & 1))
        row = []
        for symbol, is_word in enumerate(terms.is_word):
            derived = terms.derivative(term, symbol, before)
            state = (derived, int(is_word and terms.has_boundary[derived]))
            if state not in number:
                number[state] = len(waiting)
                waiting.append(state)
            row.append(number[state])
        if len(waiting) > MOST_STATES:
            raise ExpressionTooLargeError(f"an automaton of more than {MOST_STATES:,} states")
        table.append(row)
    return table, accepting


def _minimal(table: list[list[int]], accepting: list[bool]) -> tuple[list[list[int]], list[bool]]:
    """Join the states that no line tells apart; the first state's block comes first."""
    block_of = _blocks(table, accepting)
    number: dict[int, int] = {}
    for block in block_of:
        number.setdefault(block, len(number))
    member = {number[block]: state for state, block in enumerate(block_of)}
    states = [member[place] for place in range(len(number))]
    joined = [[number[block_of[following]] for following in table[state]] for state in states]
    return joined, [accepting[state] for state in states]


def _blocks(table: list[list[int]], accepting: list[bool]) -> list[int]:
    """The block of each state in the coarsest partition that every symbol respects (Hopcroft 1971)."""
    # States by symbol and next state.
    leading_to: list[list[list[int]]] = [[[] for _ in table] for _ in table[0]]
    for state, row in enumerate(table):
        for symbol, following in enumerate(row):
            leading_to[symbol][following].append(state)
    blocks = [{state for state, accepts in enumerate(accepting) if accepts is kind} for kind in (False, True)]
    block_of = [int(accepts) for accepts in accepting]
    waiting = {0, 1}
    while waiting:
        splitter = list(blocks[waiting.pop()])
        for before in leading_to:
            cuts: dict[int, set[int]] = {}
            for state in splitter:
                for earlier in before[state]:
                    cuts.setdefault(block_of[earlier], set()).add(earlier)
            for block, cut in cuts.items():
                if len(cut) == len(blocks[block]):
                    continue
                blocks[block] -= cut
                for state in cut:
                    block_of[state] = len(blocks)
                smaller = len(blocks) if block in waiting or len(cut) < len(blocks[block]) else block
                waiting.add(smaller)
                blocks.append(cut)
    return block_of


def _canonical(classes: list[Ranges], table: list[list[int]], accepting: list[bool]) -> Language:
    """Join classes that no state tells apart, and number the states in the order they are reached."""
    by_column: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for place, column in enumerate(zip(*table, strict=True)):
        by_column.setdefault(column, []).extend(classes[place])
    joined = sorted((merged(ranges), column) for column, ranges in by_column.items())
    number = {0: 0}
    order = [0]
    for state in order:
        for _, column in joined:
            if column[state] not in number:
                number[column[state]] = len(order)
                order.append(column[state])
    return Language(
        tuple(ranges for ranges, _ in joined),
        tuple(tuple(number[column[state]] for _, column in joined) for state in order),
        tuple(accepting[state] for state in order),
    )
