"""Metrics: `metrics.jsonl` is the source of truth; TensorBoard and the console are copies of it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from jepalm.atomic import write_atomically
from jepalm.errors import JepalmError
from jepalm.objective.terms import Losses
from jepalm.reading import parse_json
from jepalm.run import RunFolder
from jepalm.training.distributed import Processes

REPEATED_EVENTS = ("phase", "rollback", "finished")
"""Events that come again when a run goes on from their step."""


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
        seconds: that those of them took that another process trained.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.capacity, self.device = capacity, device
        self.terms: list[str] = []
        self.weights: dict[str, float | Tensor] = {}
        self.target_tokens, self.seconds = 0, 0.0
        self._missing = torch.tensor(math.nan, device=device)
        self._none = torch.zeros((), device=device)
        self._raw = self._weighted = torch.zeros(0, device=device)
        self._filled = 0

    def count(self, terms: Mapping[str, float]) -> None:
        """From now on keep these terms, given by name with their configured weight."""
        self.terms, self.weights = list(terms), dict(terms)
        self._raw = torch.zeros(self.capacity, 1 + len(terms), device=self.device)
        self._weighted = torch.zeros(self.capacity, len(terms), device=self.device)
        self._begin_anew()

    def __len__(self) -> int:
        """Steps since the last row."""
        return self._filled

    def start(self, target_tokens: int) -> None:
        """Begin a step."""
        self._raw[self._filled].zero_()
        self._weighted[self._filled].zero_()
        self._filled += 1
        self.target_tokens = self.target_tokens + target_tokens

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
        row = self._raw[self._filled - 1].unbind()
        return torch.stack([row[1 + self.terms.index(name)] for name in names])

    def take(self, processes: Processes) -> StepValues:
        """The values of the steps since the last row, over all processes; begin anew."""
        taken = self.seen(processes)
        self._begin_anew()
        return taken

    def seen(self, processes: Processes) -> StepValues:
        """The values of the steps since the last row, over all processes."""
        raw = processes.sum(self._raw[: self._filled].clone()).cpu()
        shares = processes.sum(self._weighted[: self._filled].clone()).mean(0).tolist()
        weights = [float(self.weights[name]) for name in self.terms]
        return StepValues(self.terms, raw, weights, shares, int(self.target_tokens))

    def saved(self, processes: Processes, seconds: float) -> dict[str, Any]:
        """These steps over all processes as JSON, for `restore`.

        Args:
            processes: that train together.
            seconds: since the last row, in this process.
        """
        return {
            "raw": processes.sum(self._raw[: self._filled].clone()).tolist(),
            "weighted": processes.sum(self._weighted[: self._filled].clone()).tolist(),
            "weights": {name: float(self.weights[name]) for name in self.terms},
            "target_tokens": int(self.target_tokens),
            "seconds": self.seconds + seconds,
        }

    def restore(self, saved: Mapping[str, Any], processes: Processes) -> None:
        """Go on with the steps that `saved` gave; the first process has all of their values.

        Raises:
            ValueError: these are other terms, or something else.
        """
        if not saved:
            return
        try:
            raw, weighted = torch.tensor(saved["raw"]), torch.tensor(saved["weighted"])
            fit = raw.shape[1:] == self._raw.shape[1:] and weighted.shape[1:] == self._weighted.shape[1:]
            weights = {name: float(saved["weights"][name]) for name in self.terms}
            target_tokens, seconds = int(saved["target_tokens"]), float(saved["seconds"])
        except (KeyError, OverflowError, RuntimeError, TypeError, ValueError):
            fit = False
        if not fit or len(raw) != len(weighted):
            raise ValueError("not the steps of these terms")
        mine = 1.0 if processes.first else 0.0
        self._raw = torch.cat([mine * raw.to(self._raw), self._raw])
        self._weighted = torch.cat([mine * weighted.to(self._weighted), self._weighted])
        self._filled, self.weights = len(raw), dict(weights)
        self.target_tokens, self.seconds = target_tokens, seconds

    def _begin_anew(self) -> None:
        self._filled, self.target_tokens, self.seconds = 0, 0, 0.0


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


class JsonLines:
    """Appends lines to a file; what the disk refuses is kept and written with the next line.

    Args:
        path: the file.
        trouble: told when a line could not be written.
    """

    def __init__(self, path: Path, trouble: Callable[[str], None]) -> None:
        self.path, self._trouble = path, trouble
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._waiting = b""

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row."""
        self._waiting += (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "replace")
        try:
            self._write_waiting()
        except OSError as error:
            self._trouble(f"cannot write {self.path}: {error.strerror}")

    def flush(self) -> None:
        """Write what waits, and flush it to disk.

        Raises:
            OSError: the disk refused.
        """
        self._write_waiting()
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file; what still waits is lost."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write_waiting(self) -> None:
        start = os.fstat(self._descriptor).st_size
        left = memoryview(self._waiting)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, start)  # no torn line
            raise
        self._waiting = b""


class Board:
    """TensorBoard's copy of the metrics. A disk that fails ends the copy, not the training.

    Args:
        folder: of the event files.
        purge_step: first step that is written again, on resuming.
        trouble: told once, when the copy ends.
    """

    def __init__(self, folder: Path, purge_step: int | None, trouble: Callable[[str], None]) -> None:
        self._folder, self._trouble = folder, trouble
        self._writer: SummaryWriter | None = None
        with self._ending():
            self._writer = SummaryWriter(str(folder), purge_step=purge_step)

    def write(self, step: int, values: Mapping[str, Any], *, flush: bool) -> None:
        """Write the numbers with a slash in their name."""
        with self._ending():
            for key, value in values.items():
                if self._writer is not None and "/" in key and isinstance(value, int | float):
                    self._writer.add_scalar(key, value, step)
            if self._writer is not None and flush:
                self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        with self._ending():
            if self._writer is not None:
                self._writer.close()
        self._writer = None

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """Let go of the writer when the disk fails, here or in the library's thread."""
        try:
            yield
        except (OSError, ValueError) as error:
            self._writer = None
            reason = getattr(error, "strerror", None) or str(error)
            self._trouble(f"cannot write {self._folder}: {reason}; TensorBoard is left out")


def silence_board_threads() -> None:
    """Keep Python from printing a traceback for a fault that `Board` meets anyway.

    The library hands the exception of its writing thread on to the next call, and lets the thread die of it.
    """
    before = threading.excepthook

    def hook(told: Any) -> None:
        if type(told.thread).__name__ != "_AsyncWriterThread":
            before(told)

    hook.of_board = True  # type: ignore[attr-defined]
    if not hasattr(before, "of_board"):
        threading.excepthook = hook


class MetricLog:
    """Writes rows to `metrics.jsonl`, texts to `samples.jsonl`, and numbers to TensorBoard too.

    Args:
        run: whose files.
        resumed_at: the step from which the run goes on; what was written after it is removed.
        trouble: told what the disk refused; the rows wait, and are written with the next.
        repeated: events that come again at that step, so they are removed there too.

    Raises:
        OSError: a file cannot be opened, or what was written cannot be cut.
    """

    def __init__(
        self,
        run: RunFolder,
        resumed_at: int | None = None,
        trouble: Callable[[str], None] = lambda message: None,
        *,
        repeated: Collection[str] = REPEATED_EVENTS,
    ) -> None:
        self.run = run
        if resumed_at is not None:
            drop_after(run.metrics, resumed_at, and_events=repeated)
            drop_after(run.samples, resumed_at)
        silence_board_threads()
        self._rows = JsonLines(run.metrics, trouble)
        self._samples = JsonLines(run.samples, trouble)
        self._board = Board(run.tensorboard, resumed_at and resumed_at + 1, trouble)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Write one row; numbers with a slash in their name go to TensorBoard too."""
        self._rows.write({"kind": kind, "step": step, **{key: short(value) for key, value in values.items()}})
        self._board.write(step, values, flush=kind != "train")

    def sample(self, step: int, source: str, target: str, generated: str) -> None:
        """Write down what the model makes of a held-out source."""
        self._samples.write({"step": step, "source": source, "target": target, "generated": generated})

    def flush(self) -> None:
        """Bring all rows to the disk, before a checkpoint says that they are there.

        Raises:
            JepalmError: the disk refused.
        """
        for lines in (self._rows, self._samples):
            try:
                lines.flush()
            except OSError as error:
                raise JepalmError(f"cannot write {lines.path}: {error.strerror}", "free disk space") from None

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


def drop_after(path: Path, step: int, and_events: Collection[str] = ()) -> None:
    """Remove the rows of a JSON-lines file that come after a step, and a torn last line.

    Args:
        path: the file.
        step: the last to keep.
        and_events: events that are removed at the step, too, as they come again.
    """
    if not path.exists():
        return
    kept = []
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):  # not at U+2028
        try:
            row = parse_json(text)
        except ValueError:
            continue
        at = row.get("step", 0) if isinstance(row, dict) else None
        if not isinstance(at, int | float) or at > step:
            continue
        if not (at == step and row.get("kind") == "event" and row.get("event") in and_events):
            kept.append(text + "\n")
    write_atomically(path, "".join(kept))
