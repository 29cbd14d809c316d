"""The phases of a run's training: when each began and what its loss was made of."""

from __future__ import annotations

from dataclasses import dataclass

from jepalm.report.read import RunRecord


@dataclass(frozen=True)
class TrainingPhase:
    """Steps under one phase of the config, both ends included."""

    name: str
    first: int
    last: int

    @property
    def text(self) -> str:
        """The steps in words."""
        return f"steps {self.first:,} to {self.last:,}"


def training_phases(record: RunRecord) -> list[TrainingPhase]:
    """Return the phases that took a step, in order; none of a run that is not divided.

    An event of step s says that s steps were done when its phase began.
    """
    begun: dict[int, str] = {}
    for row in record.events:
        if row.get("event") == "phase":
            name = row.get("phase")
            begun[row["step"]] = str(name) if name else f"phase {len(begun) + 1}"
    starts = sorted(begun)
    ends = [*starts[1:], record.step]
    return [
        TrainingPhase(begun[start], start + 1, end)
        for start, end in zip(starts, ends, strict=False)
        if end > start
    ]


def phase_marks(record: RunRecord) -> list[tuple[int, str]]:
    """Return first step and name of each phase, for figures; none of a run of one phase."""
    phases = training_phases(record)
    return [(phase.first, phase.name) for phase in phases] if len(phases) > 1 else []


def last_phase_start(record: RunRecord) -> int:
    """Return the step after which the last phase ran; 0 for a run that is not divided."""
    phases = training_phases(record)
    return phases[-1].first - 1 if len(phases) > 1 else 0
