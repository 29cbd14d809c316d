"""Numbers as people read them: three significant digits, with their units."""

from __future__ import annotations

import math

NOTHING = "–"


def three(value: float | None, digits: int = 3) -> str:
    """Return a number with three significant digits, or as many as given; a dash where there is none."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return "not finite"
    if value == 0:
        return "0"
    scientific = f"{value:.{digits - 1}e}"
    rounded = float(scientific)
    exponent = math.floor(math.log10(abs(rounded)))
    if exponent < -4 or exponent > 6:
        mantissa, power = scientific.split("e")
        return f"{mantissa}e{int(power)}"
    return f"{rounded:,.{max(0, digits - 1 - exponent)}f}"


def signed(value: float | None) -> str:
    """Return a number with three significant digits and its sign."""
    return three(value) if value is None or value < 0 else f"+{three(value)}"


def percent(share: float | None) -> str:
    """Return a share of 1 as percent; one that is not 0 but rounds to it is `< 0.1 %`."""
    if share is None:
        return NOTHING
    if not math.isfinite(share):
        return "not finite"
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


def change(share: float | None) -> str:
    """Return a relative change with its sign, such as `-25.3 %`."""
    return NOTHING if share is None or not math.isfinite(share) else f"{100 * share:+.1f} %"


def count(number: float | None) -> str:
    """Return a large count with its unit, such as `10.1 M`."""
    if number is None:
        return NOTHING
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{three(number / size)} {unit}"
    return f"{number:,.0f}"


def counted(number: int, unit: str) -> str:
    """Return how many of a thing there are, the thing's word in the right number: `1 row`, `2,000 rows`."""
    if number == 1:
        return f"1 {unit}"
    return f"{number:,} {unit}{'es' if unit.endswith(('s', 'x')) else 's'}"


def are(number: int) -> str:
    """Return `is` of one thing and `are` of others."""
    return "is" if number == 1 else "are"


def age(seconds: float) -> str:
    """Return how long ago something was, in whole units: `40 s`, `3 min`, `5 h`, `12 d`."""
    for unit, size, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < most * size:
            return f"{max(0, seconds) // size:.0f} {unit}"
    return f"{seconds // 86400:,.0f} d"


def duration(seconds: float | None, digits: int = 3) -> str:
    """Return a time with its unit: `82.4 ms`, `34.0 min`, `8.60 h`.

    Args:
        seconds: a dash where there are none.
        digits: significant ones; two for an estimate, such as `34 min`.
    """
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if 0 < seconds < 1:
        return f"{three(1000 * seconds, digits)} ms"
    for unit, size in (("s", 1), ("min", 60)):
        if seconds < 90 * size:
            return f"{three(seconds / size, digits)} {unit}"
    return f"{three(seconds / 3600, digits)} h"
