"""What the sweep asks of a worker process and what it hears back, each one line of JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from jepalm.config import Config
from jepalm.data.regex.syntax import Reading
from jepalm.run import open_run


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Evaluate(_Message):
    """An evaluation to make."""

    split: str
    prompts: int | None
    samples: int
    temperature: float
    seed: int
    baseline: Path | None
    scorer: Path | None
    task: str | None = None
    """How the answers to given pairs are scored; empty where the data are none."""
    reading: Reading = "boundary"
    databases: Path | None = None

    def asked(self, step: int) -> dict[str, Any]:
        """Everything that the figures depend on beside the run: its step, and what the others are."""
        others = {"baseline": self.baseline, "scorer": self.scorer}
        own = {"task", "reading", "databases"} if self.task is None else set()
        return {
            "step": step,
            **self.model_dump(mode="json", exclude={"baseline", "scorer", *own}),
            **{what: _name_and_step(path) for what, path in others.items()},
        }


class Task(_Message):
    """One row under one seed: train what is missing, then evaluate where asked."""

    row: str
    seed: int
    config: Config
    folder: Path
    """Where the sweep's runs lie."""
    data_root: Path
    run: Path | None
    """A run of this config that was begun or finished."""
    evaluate: Evaluate | None
    jobs: int
    """Processes that share this machine."""

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.row} seed {self.seed}"


class Outcome(_Message):
    """What became of a task."""

    status: Literal["done", "interrupted", "failed"]
    message: str = ""
    """Why it failed, one line."""
    run: Path | None = None
    """Its run, where it is done."""
    seconds: float = 0.0


def _name_and_step(path: Path | None) -> str | None:
    if path is None:
        return None
    run = open_run(path)
    return f"{run.name} at step {run.read_manifest().get('step')}"
