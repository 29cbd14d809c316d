"""Shares, counts and times with their units, and visible whitespace."""

from __future__ import annotations

import math

from jepalm.numbers import NOTHING, three

_MARKS = {" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"}


def percent(share: float | None) -> str:
    """Return a share of 1 as percent; what is there but rounds to nothing says so."""
    if share is None:
        return NOTHING
    if not math.isfinite(share):
        return "not finite"
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


def change(share: float | None) -> str:
    """Return a relative change with its sign, such as `-25.3 %`."""
    if share is None or not math.isfinite(share):
        return NOTHING
    return f"{100 * share:+.1f} %"


def count(number: float | None) -> str:
    """Return a large count with its unit, such as `10.1 M`."""
    if number is None:
        return NOTHING
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{three(number / size)} {unit}"
    return f"{number:,.0f}"


def mark_whitespace(text: str) -> list[tuple[str, bool]]:
    """Split text into (piece, is a mark): blanks and control characters become visible marks."""
    pieces: list[tuple[str, bool]] = []
    for character in text:
        mark = _MARKS.get(character)
        if mark is None and ord(character) < 32:
            mark = chr(0x2400 + ord(character))
        piece, marked = (mark, True) if mark is not None else (character, False)
        if pieces and pieces[-1][1] == marked:
            pieces[-1] = (pieces[-1][0] + piece, marked)
        else:
            pieces.append((piece, marked))
    return pieces


def visible(text: str) -> str:
    """Return text on one line with its whitespace shown as marks."""
    return "".join(piece for piece, _ in mark_whitespace(text))
