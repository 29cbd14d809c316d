"""One line on what a run shows, with the rule that spoke."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Verdict:
    """One line on what the run shows."""

    level: Literal["warning", "note", "good"]
    code: str
    text: str
    reason: str
    """The rule that spoke, in one line."""
    about: str = ""
    """The loss term that it speaks of, if one."""

    @property
    def sign(self) -> str:
        """What the line begins with."""
        return {"warning": "!", "note": "·", "good": "✓"}[self.level]
