"""Everything `jepalm bench` measures, as one tree."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from jepalm.evaluation.speed.training_step import StepSpeed
from jepalm.evaluation.speed.verified import VerifiedSpeed
from jepalm.evaluation.speed.writing import CHARACTERS, ModelDescription, WritingSpeed


@dataclass(frozen=True)
class Bench:
    """The speed of a run, on what it was measured, beside what.

    Attributes:
        run: its name.
        step: of its checkpoint.
        created: when, in UTC.
        hardware: device, its name, threads, precision of both; `compiled` is the training step alone.
        seconds: how long each time was measured at least.
        models: who wrote, by column: `model` and `baseline`.
        nfe: forward passes that each took for a text.
        writing: both, at each batch size.
        training: the training step of the run.
        verified: the run's drafts under another run's verification, where one was given.
    """

    run: str
    step: int
    created: str
    hardware: dict[str, Any]
    seconds: float
    models: dict[str, ModelDescription]
    nfe: dict[str, int]
    writing: list[WritingSpeed]
    training: StepSpeed
    verified: VerifiedSpeed | None = None

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        training = self.training
        return {
            "run": self.run,
            "step": self.step,
            "created": self.created,
            "hardware": self.hardware,
            "seconds": self.seconds,
            "generation": {
                "characters": CHARACTERS,
                **{name: asdict(model) | {"nfe": self.nfe[name]} for name, model in self.models.items()},
                "batches": [
                    {
                        "batch": speed.batch,
                        "seconds": {"model": asdict(speed.model), "baseline": asdict(speed.baseline)},
                        "characters_per_s": speed.characters_per_s,
                        "ratio": asdict(speed.ratio),
                        "rounds": speed.rounds,
                        "further": {name: asdict(times) for name, times in speed.further.items()},
                    }
                    for speed in self.writing
                ],
            },
            "training": {
                **asdict(training),
                "tokens_per_s": training.tokens_per_s,
                "flops_per_s": training.flops_per_s,
                "share_of_peak": training.share_of_peak,
            },
            "verified": asdict(self.verified) if self.verified is not None else None,
        }
