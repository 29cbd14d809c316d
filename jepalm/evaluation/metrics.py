"""The registry of evaluation metrics: what each is called, its unit, which way is better, and its control.

`evaluate`, `sweep`, the report and the frontier read it; it imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One metric of `jepalm evaluate`.

    Attributes:
        name: as it stands in files, such as `scorer/gap`.
        label: for people.
        unit: of the number; empty where it has none.
        better: which way is better; None where neither is.
        control: what the number is read beside, such as `real`, `ngram` or `chance`; None where it has none.
    """

    name: str
    label: str
    unit: str
    better: Literal["up", "down"] | None
    control: str | None = None
