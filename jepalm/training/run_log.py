"""What a training writes beside its checkpoints, rows and manifest, and what the disk refused of it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from jepalm.errors import JepalmError
from jepalm.run import RunFolder
from jepalm.training.metrics import REPEATED_EVENTS, MetricLog


class RunLog:
    """Writes the rows and the manifest of a run; a disk that refuses degrades the run and does not end it.

    Only the first process writes; in the others every call does nothing.

    Args:
        run: whose files.
        first: whether this is the first process.
        note: takes a line for people.
    """

    def __init__(self, run: RunFolder, first: bool, note: Callable[[str], None]) -> None:
        self.run, self.first, self._note = run, first, note
        self.metrics: MetricLog | None = None
        """None before `open`, and in every process but the first."""
        self.degraded: list[str] = []
        """What the disk refused in the midst of training, once each."""
        self._pending: dict[str, Any] = {}

    def open(self, resumed_at: int | None, *, repeated: Collection[str] = REPEATED_EVENTS) -> None:
        """Open the files anew; see `MetricLog`."""
        self.close()
        if self.first:
            self.metrics = MetricLog(self.run, resumed_at, self.degrade, repeated=repeated)

    def event(self, step: int, event: str, **fields: Any) -> None:
        """Write an event at a step."""
        if self.metrics is not None:
            self.metrics.write("event", step, {"event": event, **fields})

    def manifest(self, **fields: Any) -> None:
        """Write fields into the manifest; what the disk refuses goes there with the next ones."""
        if not self.first:
            return
        self._pending |= fields
        if self.degraded:
            self._pending["degraded"] = self.degraded
        try:
            self.run.update_manifest(**self._pending)
        except OSError as error:
            self.degrade(f"cannot write {self.run.manifest}: {error.strerror}")
        else:
            self._pending = {}

    def flush(self) -> None:
        """Bring all rows to the disk.

        Raises:
            JepalmError: the disk refused.
        """
        if self.metrics is not None:
            self.metrics.flush()

    def check_manifest(self) -> None:
        """Check that the manifest has all that was written into it.

        Raises:
            JepalmError: the disk refused the last fields.
        """
        if self._pending:
            raise JepalmError(f"cannot write {self.run.manifest}", "free disk space, then resume the run")

    def close(self) -> None:
        """Close the files of rows."""
        if self.metrics is not None:
            self.metrics.close()

    def degrade(self, fault: str) -> None:
        """Say once what the disk refused, and go on."""
        if fault not in self.degraded:
            self.degraded.append(fault)
            self._note(f"warning: {fault}")
