"""The trainer's progress: one live block on a terminal, plain lines elsewhere, always a copy in log.txt."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from jepalm.escaping import for_terminal
from jepalm.numbers import duration, three
from jepalm.run import RunFolder
from jepalm.training.schedule import Schedule

PLAIN_EVERY_S = 10.0
SAMPLE_SHOWN = 80
"""Characters of a sample on a progress line."""


def train_line(row: Mapping[str, Any]) -> str:
    """`loss 312 = reconstruction 0.003 (0 %) + embedding 188 (60 %) + ...` of a train row."""
    terms = [
        f"{name} {three(row[key])} ({100 * row[f'train/share/{name}']:.0f} %)"
        for key in row
        if key.startswith("train/term/") and (name := key.removeprefix("train/term/"))
    ]
    return f"loss {three(row['train/loss'])} = {' + '.join(terms)}"


def validation_line(row: Mapping[str, Any], dim: int, sample: str = "") -> str:
    """The held-out metrics that people watch, and the text that the model writes for a held-out source."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in sample).split())
    shown = shown if len(shown) <= SAMPLE_SHOWN else shown[:SAMPLE_SHOWN] + "…"
    right = row.get("validation/exact_match")
    exact = f" · exact {100 * right:.0f} %" if right is not None else ""
    if "validation/next_token_ce" in row:
        text = (
            f"validation: next-token CE {three(row['validation/next_token_ce'])} nats"
            f" · {three(row['validation/nats_per_character'])} nats a character"
            f" · accuracy {100 * row['validation/next_token_accuracy']:.0f} %{exact}"
        )
        return f'{text} · sample "{shown}"' if shown else text
    text = (
        f"validation: R2 {row['validation/r2']:.2f}"
        f" · generation CE {three(row['validation/generation_ce'])}"
        f" · reconstruction CE {three(row['validation/reconstruction_ce'])}"
        f" · rank {row['validation/effective_rank']:.0f}/{dim}{exact}"
    )
    return f'{text} · sample "{shown}"' if shown else text


class _LiveBlock(Progress):
    """A bar and, folded to the width of the terminal, what is known of the training."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bar, where it is and how fast, the loss, and the newest held-out metrics."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            fields = task.fields
            first = " · ".join(filter(None, (fields["place"], fields["speed"] + fields["left"])))
            for text in (first, fields["terms"], fields["held_out"]):
                if text:
                    yield Text(text, overflow="fold", no_wrap=False)


class TrainingProgress:
    """Shows how far training is; a context manager around the loop.

    Args:
        console: where to; None shows nothing and writes no `log.txt`.
        run: the run's folder.
        schedule: of the run.
        seconds_by_phase: estimated seconds a step of each phase by its name; empty: all phases alike.
    """

    def __init__(
        self,
        console: Console | None,
        run: RunFolder,
        schedule: Schedule,
        seconds_by_phase: Mapping[str, float] | None = None,
    ) -> None:
        self.console, self.run, self.schedule = console, run, schedule
        self.seconds_by_phase = seconds_by_phase or {}
        self._last_plain = time.monotonic()
        self._live: Progress | None = None
        if console is not None and console.is_interactive:
            self._live = _LiveBlock(
                BarColumn(bar_width=24), TextColumn("{task.percentage:.0f} %"), console=console
            )
            empty = dict.fromkeys(("place", "speed", "left", "terms", "held_out"), "")
            self._task = self._live.add_task("train", total=schedule.steps, **empty)  # type: ignore[arg-type]

    def start(self, step: int) -> None:
        """Begin with so many steps done."""
        if self._live is not None:
            self._live.update(self._task, completed=step, place=self._place(step))

    def __enter__(self) -> TrainingProgress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def trained(self, step: int, row: Mapping[str, Any]) -> None:
        """Show a train row."""
        seconds = self._seconds_left(step, 1 / max(row["speed/steps_per_s"], 1e-9))
        left = f" · {duration(seconds, digits=2)} left" if seconds else ""
        speed = f"{three(row['speed/steps_per_s'])} steps/s · {row['speed/tokens_per_s'] / 1e3:.1f} k tok/s"
        terms = train_line(row)
        if self._live is not None:
            place = self._place(step)
            self._live.update(self._task, completed=step, place=place, speed=speed, left=left, terms=terms)
        elif time.monotonic() - self._last_plain >= PLAIN_EVERY_S or step >= self.schedule.steps:
            self._last_plain = time.monotonic()
            self._plain(f"{self._place(step)} · {speed}{left} · {terms}")
        self._log(f"step {step} · {speed} · {terms}")

    def validated(self, step: int, text: str) -> None:
        """Show a line of held-out metrics."""
        if self._live is not None:
            self._live.update(self._task, held_out=text)
        else:
            self._plain(f"step {step:,} · {text}")
        self._log(f"step {step} · {text}")

    def note(self, text: str) -> None:
        """Show a line that stays."""
        self._plain(text)
        self._log(text)

    def _seconds_left(self, step: int, seconds_per_step: float) -> float:
        """Seconds to the last step: measured in this phase, of later ones scaled by their estimates."""
        estimated = self.seconds_by_phase.get(self.schedule.phase_of(step - 1).name, 0.0)
        seconds = 0.0
        for phase in self.schedule.stretches:
            scale = self.seconds_by_phase.get(phase.name, estimated) / estimated if estimated else 1.0
            seconds += max(0, phase.end - max(step, phase.first)) * seconds_per_step * scale
        return seconds

    def _place(self, step: int) -> str:
        epochs = -(-self.schedule.steps // self.schedule.steps_per_epoch)
        epoch = min(epochs, step // self.schedule.steps_per_epoch + 1)
        steps = f"epoch {epoch}/{epochs} · step {step:,}/{self.schedule.steps:,}"
        if len(self.schedule.phases) > 1:
            return f"{self.schedule.phase_of(step - 1).name} · {steps}"
        return steps

    def _plain(self, text: str) -> None:
        if self.console is not None:
            self.console.print(text, markup=False)

    def _log(self, text: str) -> None:
        if self.console is not None:
            with (
                contextlib.suppress(OSError),
                open(self.run.log, "a", encoding="utf-8") as log,
            ):  # a copy only
                log.write(f"{time.strftime('%H:%M:%S')} {for_terminal(text)}\n")
