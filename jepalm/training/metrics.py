"""Metrics: `metrics.jsonl` is the source of truth; TensorBoard and the console are copies of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from jepalm.objective.terms import Losses
from jepalm.run import RunFolder, write_atomically
from jepalm.training.distributed import Processes


class RecentSteps:
    """Loss and terms of the steps since the last row, kept on the device until a row is written.

    Reading a number from the device makes the CPU wait for it; this does so once a row.

    Args:
        capacity: most steps between two rows.
        device: of the terms.

    Attributes:
        terms: names of the terms that count, in order.
        weights: the last weight of each, as configured before the first step.
        target_tokens: target tokens of these steps.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.capacity, self.device = capacity, device
        self.terms: list[str] = []
        self.weights: dict[str, float | Tensor] = {}
        self.target_tokens = 0
        self._missing = torch.tensor(math.nan, device=device)
        self._none = torch.zeros((), device=device)
        self._raw = self._weighted = torch.zeros(0, device=device)
        self._filled = 0

    def count(self, terms: Mapping[str, float]) -> None:
        """From now on keep these terms, given by name with their configured weight."""
        self.terms, self.weights = list(terms), dict(terms)
        self._raw = torch.zeros(self.capacity, 1 + len(terms), device=self.device)
        self._weighted = torch.zeros(self.capacity, len(terms), device=self.device)
        self._filled = self.target_tokens = 0

    def __len__(self) -> int:
        """Steps since the last row."""
        return self._filled

    def start(self, target_tokens: int) -> None:
        """Begin a step."""
        self._raw[self._filled].zero_()
        self._weighted[self._filled].zero_()
        self._filled += 1
        self.target_tokens += target_tokens

    def add(self, losses: Losses) -> None:
        """Add a micro batch to the step that began last; a term that it leaves out becomes not a number."""
        raw = {name: term.detach() for name, term in losses.terms.items()}
        weighted = {name: losses.weights[name] * term for name, term in raw.items()}
        row = [losses.total.detach(), *(raw.get(name, self._missing) for name in self.terms)]
        self._raw[self._filled - 1] += torch.stack([value.float() for value in row])
        row = [weighted.get(name, self._none) for name in self.terms]
        self._weighted[self._filled - 1] += torch.stack([value.float() for value in row])
        self.weights.update(losses.weights)

    def last(self, names: list[str]) -> Tensor:
        """The (T,) terms of these names of the step that began last, over this process's micro batches."""
        return self._raw[self._filled - 1, [1 + self.terms.index(name) for name in names]]

    def take(self, processes: Processes) -> StepValues:
        """The values of the steps since the last row, over all processes; begin anew."""
        raw = processes.sum(self._raw[: self._filled].clone()).cpu()
        shares = processes.sum(self._weighted[: self._filled].clone()).mean(0).tolist()
        weights = [float(self.weights[name]) for name in self.terms]
        taken = StepValues(self.terms, raw, weights, shares, self.target_tokens)
        self._filled = self.target_tokens = 0
        return taken


@dataclass(frozen=True)
class StepValues:
    """What some steps gave, over all processes.

    Attributes:
        terms: names of the T terms that count.
        raw: (steps, 1 + T) loss and unweighted terms, on the CPU; not a number where a step left a term out.
        weights: the last weight of each term.
        weighted: mean of each weighted term.
        target_tokens: of the global batches.
    """

    terms: list[str]
    raw: Tensor
    weights: list[float]
    weighted: list[float]
    target_tokens: int

    def metrics(self, all_terms: list[str]) -> dict[str, Any]:
        """`train/loss` and of each term `train/term`, `train/weight` and `train/share`, for a row.

        Args:
            all_terms: a term that does not count now has weight and share 0, and no value.
        """
        loss, *means = self.raw.nanmean(0).tolist()
        terms = zip(self.terms, means, strict=True)
        total = sum(self.weighted)
        shares = [value / total if total else 0.0 for value in self.weighted]
        idle = dict.fromkeys((name for name in all_terms if name not in self.terms), 0.0)
        weights = dict(zip(self.terms, self.weights, strict=True)) | idle
        return {
            "train/loss": loss,
            **{f"train/term/{name}": value for name, value in terms if not math.isnan(value)},
            **{f"train/weight/{name}": value for name, value in weights.items()},
            **{
                f"train/share/{name}": value
                for name, value in (dict(zip(self.terms, shares, strict=True)) | idle).items()
            },
        }

    def by_step(self) -> dict[str, list[float]]:
        """Unweighted value of each term at each step."""
        return {name: self.raw[:, 1 + place].tolist() for place, name in enumerate(self.terms)}

    def first_not_finite(self) -> int | None:
        """The first step, counted from 0, whose loss is not finite; a term that is not makes the loss so."""
        bad = (~torch.isfinite(self.raw[:, 0])).nonzero().flatten().tolist()
        return int(bad[0]) if bad else None

    def describe(self, place: int) -> str:
        """Loss and terms of a step (from 0), for an error message."""
        names = ("loss", *self.terms)
        values = self.raw[place].tolist()
        return ", ".join(f"{name} {value:.4g}" for name, value in zip(names, values, strict=True))


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
