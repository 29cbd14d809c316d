"""Numbers and times as people read them: three significant digits."""

from __future__ import annotations

import math

NOTHING = "–"


def three(value: float | None) -> str:
    """Return a number with three significant digits, or a dash where there is none."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return "not finite"
    if value == 0:
        return "0"
    rounded = float(f"{value:.2e}")
    exponent = math.floor(math.log10(abs(rounded)))
    if exponent < -4 or exponent > 6:
        mantissa, power = f"{value:.2e}".split("e")
        return f"{mantissa}e{int(power)}"
    return f"{rounded:,.{max(0, 2 - exponent)}f}"


def duration(seconds: float | None) -> str:
    """Return a time with its unit, such as `34.0 min`, or a dash where there is none."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if 0 < seconds < 1:
        return f"{three(1000 * seconds)} ms"
    if seconds < 120:
        return f"{three(seconds)} s"
    if seconds < 7200:
        return f"{three(seconds / 60)} min"
    return f"{three(seconds / 3600)} h"
