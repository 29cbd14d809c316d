"""The phases of a run's training, and the stretch of it whose loss is called stable."""

from __future__ import annotations

from dataclasses import dataclass

from jepalm.report.read import RunRecord


@dataclass(frozen=True)
class PhaseRecord:
    """A stretch of steps, both ends included.

    Attributes:
        first: its first step.
        last: its last step.
        name: of the phase in the config, or why the stable phase is these steps.
    """

    first: int
    last: int
    name: str

    @property
    def text(self) -> str:
        """The steps in words."""
        return f"steps {self.first:,} to {self.last:,}"


def training_phases(record: RunRecord) -> list[PhaseRecord]:
    """Return the phases that took a step, in order; none of a run that is not divided.

    An event of step s says that s steps were done when its phase began.
    """
    begun: dict[int, str] = {}
    for point in record.events:
        if point.get("event") == "phase":
            begun[point["step"]] = str(point.get("phase") or f"phase {len(begun) + 1}")
    starts = sorted(begun)
    ends = [*starts[1:], record.step]
    return [
        PhaseRecord(start + 1, end, begun[start])
        for start, end in zip(starts, ends, strict=False)
        if end > start
    ]


def phase_marks(record: RunRecord) -> list[tuple[int, str]]:
    """Return first step and name of each phase, for plots; none of a run of one phase."""
    phases = training_phases(record)
    return [(phase.first, phase.name) for phase in phases] if len(phases) > 1 else []


def last_phase_start(record: RunRecord) -> int:
    """Return the step after which the last phase ran; 0 for a run that is not divided."""
    marks = phase_marks(record)
    return marks[-1][0] - 1 if marks else 0


def stable_phase(record: RunRecord) -> PhaseRecord | None:
    """Return the steps after the first epoch, or the second half of a run of at most one epoch.

    Of a run in several phases, whose losses measure different things, the same of its last phase.
    """
    recorded = [point["step"] for point in record.train]
    recorded += [int(values.step[-1]) for values in record.batches.values() if len(values)]
    if not recorded or max(recorded) < 1:
        return None
    last, epoch, start, whole = max(recorded), record.steps_per_epoch, 0, "the run"
    marks = phase_marks(record)
    if marks and marks[-1][0] <= last:
        start, whole = marks[-1][0] - 1, f"phase {marks[-1][1]}"
    if epoch is not None and last > start + epoch:
        return PhaseRecord(
            start + epoch + 1, last, "after the first epoch" + (f" of {whole}" if start else "")
        )
    return PhaseRecord((start + last) // 2 + 1, last, f"second half of {whole}, which has no second epoch")
