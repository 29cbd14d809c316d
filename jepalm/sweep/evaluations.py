"""The evaluation that a run of a sweep needs: the command that makes it, and whether the run has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jepalm.atomic import write_json
from jepalm.config import HardwareConfig
from jepalm.errors import JepalmError
from jepalm.evaluation.rows import Evaluation
from jepalm.reading import read_json
from jepalm.run import RunFolder, open_run


@dataclass(frozen=True)
class EvaluationRequest:
    """Options of one `jepalm evaluate`.

    Attributes:
        task: how the answers to given pairs are scored; None where the data are no given pairs.
    """

    split: str
    prompts: int | None
    samples: int
    temperature: float
    seed: int
    baseline: Path | None
    scorer: Path | None
    task: str | None = None
    reading: str = "boundary"
    databases: Path | None = None

    def arguments(self, run: RunFolder, data_root: Path, hardware: HardwareConfig) -> list[str]:
        """The command line that evaluates a run."""
        options = {
            **self._draws,
            "baseline": self.baseline,
            "scorer": self.scorer,
            "reading": self.reading,
            "databases": self.databases,
            "device": hardware.device,
            "precision": hardware.precision,
            "data-dir": data_root,
        }
        given = [f"--{name}={value}" for name, value in options.items() if value is not None]
        return ["evaluate", str(run.path), *given, "--json"]

    def read(self, run: RunFolder) -> dict[str, Any] | None:
        """This evaluation, if the run has it, made with these options at the run's last step.

        One that cannot be read is none: it is made anew.
        """
        try:
            tree = read_json(self._file(run))
            evaluation = Evaluation.from_json(tree).as_json()
            asked = self.asked(int(run.read_manifest()["step"]))
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None
        return evaluation if tree.get("asked") == asked else None

    def mark(self, run: RunFolder) -> None:
        """Write these options into the evaluation that was just made with them.

        Raises:
            JepalmError: it cannot be read, or written.
        """
        path = self._file(run)
        try:
            tree = read_json(path)
            marked = {**tree, "asked": self.asked(int(tree["step"]))}
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            hint = f"jepalm evaluate {run.path} --split {self.split} writes it anew"
            raise JepalmError(f"{path} cannot be read", hint) from None
        write_json(path, marked)

    def asked(self, step: int) -> dict[str, Any]:
        """Everything that the metrics depend on beside the run itself."""
        options = self._draws
        if self.task is not None:
            databases = str(self.databases) if self.databases is not None else None
            options |= {"task": self.task, "reading": self.reading, "databases": databases}
        others = {"baseline": _name_and_step(self.baseline), "scorer": _name_and_step(self.scorer)}
        return {"step": step, **options, **others}

    @property
    def _draws(self) -> dict[str, Any]:
        """Which texts are written."""
        return {name: getattr(self, name) for name in ("split", "prompts", "samples", "temperature", "seed")}

    def _file(self, run: RunFolder) -> Path:
        return run.report / f"evaluation-{self.split}.json"


def _name_and_step(path: Path | None) -> str | None:
    if path is None:
        return None
    run = open_run(path)
    return f"{run.name} at step {run.read_manifest().get('step')}"
