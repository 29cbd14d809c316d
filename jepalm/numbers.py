"""Numbers as people read them: three significant digits."""

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
