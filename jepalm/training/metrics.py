"""Metrics: `metrics.jsonl` is the source of truth; TensorBoard and the console are copies of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from jepalm.run import RunFolder, write_atomically


class StepBuffer:
    """The terms of the last steps, kept on the device until a log point reads them.

    Reading a number from the device makes it wait; this does so once a log point.

    Args:
        names: of the terms.
        capacity: most steps between two log points.
        device: of the terms.
        missing: stands for a term that a step leaves out.
    """

    def __init__(self, names: list[str], capacity: int, device: torch.device, missing: float = 0.0) -> None:
        self.names = names
        self.missing = torch.tensor(missing, device=device)
        self.values = torch.zeros(capacity, len(names), device=device)
        self.filled = 0

    def start(self) -> None:
        """Begin a step."""
        self.values[self.filled].zero_()
        self.filled += 1

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add a micro batch's share to the step that began last."""
        row = torch.stack(
            [values[name].detach().float() if name in values else self.missing for name in self.names]
        )
        self.values[self.filled - 1] += row

    def last(self) -> Tensor:
        """The (names,) values of the step that began last."""
        return self.values[self.filled - 1].clone()

    def take(self) -> Tensor:
        """Return the (steps, names) values since the last call and begin anew."""
        taken = self.values[: self.filled].clone()
        self.filled = 0
        return taken


class MetricLog:
    """Writes rows to `metrics.jsonl` and TensorBoard, flushed at every row."""

    def __init__(self, run: RunFolder, resumed_at: int | None = None) -> None:
        self.run = run
        if resumed_at is not None:
            for path in (run.metrics, run.samples):
                drop_after(path, resumed_at, and_event="phase")
        self._rows: TextIO = open(run.metrics, "a", encoding="utf-8")  # noqa: SIM115
        self._samples: TextIO = open(run.samples, "a", encoding="utf-8")  # noqa: SIM115
        self._board = SummaryWriter(str(run.tensorboard), purge_step=resumed_at and resumed_at + 1)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Write one row; numbers with a slash in their name go to TensorBoard too."""
        row = {"kind": kind, "step": step, **{key: short(value) for key, value in values.items()}}
        self._rows.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._rows.flush()
        for key, value in values.items():
            if "/" in key and isinstance(value, int | float):
                self._board.add_scalar(key, value, step)
        if kind != "train":
            self._board.flush()

    def sample(self, step: int, source: str, target: str, generated: str) -> None:
        """Write down what the model makes of a held-out source."""
        row = {"step": step, "source": source, "target": target, "generated": generated}
        self._samples.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._samples.flush()

    def close(self) -> None:
        """Close the files."""
        self._rows.close()
        self._samples.close()
        self._board.close()


def short(value: Any) -> Any:
    """Round floats to five significant digits, in lists too; leave the rest."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    if isinstance(value, list):
        return [short(item) for item in value]
    if isinstance(value, Mapping):
        return {key: short(item) for key, item in value.items()}
    return value


def drop_after(path: Path, step: int, and_event: str = "") -> None:
    """Remove the rows of a JSON-lines file that come after a step, and a torn last line.

    Args:
        path: the file.
        step: the last to keep.
        and_event: an event that is removed at the step, too, as it comes again.
    """
    if not path.exists():
        return
    kept = []
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):  # not at U+2028
        try:
            row = json.loads(text)
        except ValueError:
            continue
        if not isinstance(row, dict) or row.get("step", 0) > step:
            continue
        if not (and_event and row.get("step") == step and row.get("event") == and_event):
            kept.append(text + "\n")
    write_atomically(path, "".join(kept))
