"""How long a run is and which learning rate each step has: pure functions of the config and the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jepalm.config import OptimizerConfig, PhaseConfig, TrainingConfig
from jepalm.errors import UsageError

VALIDATIONS_A_RUN = 20


@dataclass(frozen=True)
class Phase:
    """A phase in steps.

    Attributes:
        config: what it is to be.
        index: its place among the phases, from 0.
        first: steps of the run done when it begins.
        steps: its own steps.
    """

    config: PhaseConfig
    index: int
    first: int
    steps: int

    @property
    def name(self) -> str:
        """What it is called."""
        return self.config.name

    @property
    def end(self) -> int:
        """Steps of the run done when it ends."""
        return self.first + self.steps

    def learning_rate(self, step: int, config: OptimizerConfig) -> float:
        """Learning rate of the run's step `step` (counted from 0), by the phase's own schedule."""
        own = self.config.model_dump(include={"lr", "min_lr", "warmup_steps", "schedule"}, exclude_none=True)
        return learning_rate(step - self.first, self.steps, config.model_copy(update=own))


@dataclass(frozen=True)
class Plan:
    """A run in steps.

    Attributes:
        steps: optimizer steps in all.
        steps_per_epoch: steps that count as an epoch.
        validate_every: steps between validations; the last step always validates.
        checkpoint_every: steps between checkpoints; the last step always saves.
        phases: one after the other, as configured; empty where none are.
    """

    steps: int
    steps_per_epoch: int
    validate_every: int
    checkpoint_every: int
    phases: tuple[Phase, ...] = ()

    @classmethod
    def of(cls, config: TrainingConfig, steps_per_pass: int) -> Plan:
        """Work out the plan from the config and the steps of one pass over the training pairs.

        Raises:
            UsageError: the run is too short for its phases.
        """
        steps_per_epoch = config.steps_per_epoch or steps_per_pass
        steps = config.steps or config.epochs * steps_per_epoch
        validate_every = config.validate_every or max(1, steps // VALIDATIONS_A_RUN)
        checkpoint_every = config.checkpoint_every or validate_every
        return cls(steps, steps_per_epoch, validate_every, checkpoint_every, divide(steps, config.phases))

    def due(self, step: int, every: int) -> bool:
        """Whether something that happens `every` steps is due after `step` steps are done.

        It is at the end of a phase and of the run, too.
        """
        return step % every == 0 or step == self.steps or any(step == phase.end for phase in self.phases)

    @property
    def stretches(self) -> tuple[Phase, ...]:
        """The phases; where none are configured, the whole run as one without a name."""
        return self.phases or (Phase(PhaseConfig.model_construct(name=""), 0, 0, self.steps),)

    def phase_of(self, step: int) -> Phase:
        """The phase that step `step` (counted from 0) belongs to."""
        return next((phase for phase in self.stretches if step < phase.end), self.stretches[-1])

    def learned(self, part: str, step: int) -> tuple[int, int]:
        """Of the steps in which a part of the model learns, those within the first `step`, and all."""
        learning = [s for s in self.stretches if s.config.train is None or part in s.config.train]
        done = sum(min(max(0, step - phase.first), phase.steps) for phase in learning)
        return done, sum(phase.steps for phase in learning)


def divide(steps: int, configs: Sequence[PhaseConfig]) -> tuple[Phase, ...]:
    """Divide a run of `steps` among its phases: the fixed ones first, then the rest by shares.

    Raises:
        UsageError: a phase would have no step.
    """
    free = steps - sum(config.steps or 0 for config in configs)
    shares = sum(config.share for config in configs if config.steps is None)
    phases: list[Phase] = []
    first, shared, given = 0, 0.0, 0
    for config in configs:
        own = config.steps or 0
        if config.steps is None:
            shared += config.share
            own = round(free * shared / shares) - given
            given += own
        if own < 1:
            message = f"{steps:,} steps are too few for the {len(configs)} phases of training.phases"
            raise UsageError(message, "give more --epochs or --steps")
        phases.append(Phase(config, len(phases), first, own))
        first += own
    return tuple(phases)


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Learning rate of step `step` (counted from 0) of a run of `steps`.

    Linear warm-up to `lr`, then half a cosine down to `min_lr`, which the step after the last would have
    (SGDR, arXiv 1608.03983, eq. 5, without restarts).
    """
    warmup = min(config.warmup_steps, steps - 1)
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return config.lr
    progress = (step - warmup) / max(1, steps - warmup)
    return config.min_lr + 0.5 * (config.lr - config.min_lr) * (1 + math.cos(math.pi * progress))
