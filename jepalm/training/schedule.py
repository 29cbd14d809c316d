"""When things happen in a run, and which learning rate each step has: functions of config and step alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from jepalm.config import OptimizerConfig, PhaseConfig, TrainingConfig
from jepalm.errors import UsageError
from jepalm.numbers import are, counted

VALIDATIONS_A_RUN = 20
ENCODER_GRADIENTS_A_RUN = 20


@dataclass(frozen=True)
class Phase:
    """A phase in steps.

    Attributes:
        config: its settings.
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
        """Its configured name."""
        return self.config.name

    @property
    def end(self) -> int:
        """Steps of the run done when it ends."""
        return self.first + self.steps

    def optimizer(self, config: OptimizerConfig) -> OptimizerConfig:
        """The optimizer's settings with those that the phase replaces."""
        replaced = {"lr", "min_lr", "warmup_steps", "schedule"}
        return config.model_copy(update=self.config.model_dump(include=replaced, exclude_none=True))


@dataclass(frozen=True)
class Schedule:
    """When things happen in a run, in steps.

    Attributes:
        steps: optimizer steps in all.
        steps_per_epoch: steps that count as an epoch.
        validate_every: steps between validations; the last step always validates.
        checkpoint_every: steps between checkpoints; the last step always saves.
        encoder_gradients_every: steps between measurements of each term's gradient on the encoder, a
            multiple of the steps between metric rows; 0: never.
        phases: one after the other, as configured; empty where none are.
    """

    steps: int
    steps_per_epoch: int
    validate_every: int
    checkpoint_every: int
    encoder_gradients_every: int = 0
    phases: tuple[Phase, ...] = ()

    @classmethod
    def of(cls, config: TrainingConfig, steps_per_pass: int) -> Schedule:
        """Work out the schedule from the config and the steps of one pass over the training pairs.

        Raises:
            UsageError: the run is too short for its phases.
        """
        steps_per_epoch = config.steps_per_epoch or steps_per_pass
        steps = config.steps or config.epochs * steps_per_epoch
        validate_every = config.validate_every or max(1, steps // VALIDATIONS_A_RUN)
        gradients_every = config.encoder_gradients_every
        if gradients_every is None:
            gradients_every = min(validate_every, math.ceil(steps / ENCODER_GRADIENTS_A_RUN))
        return cls(
            steps,
            steps_per_epoch,
            validate_every,
            config.checkpoint_every or validate_every,
            math.ceil(gradients_every / config.log_every) * config.log_every,
            divide(steps, config.phases),
        )

    def due(self, step: int, every: int) -> bool:
        """Whether something that happens every `every` steps is due after `step` steps are done.

        It also is at the end of each phase and of the run.
        """
        return step % every == 0 or any(step == phase.end for phase in self.stretches)

    def encoder_gradients_due(self, step: int) -> bool:
        """Whether each term's gradient on the encoder is to be measured after `step` steps are done."""
        return self.encoder_gradients_every > 0 and self.due(step, self.encoder_gradients_every)

    @cached_property
    def stretches(self) -> tuple[Phase, ...]:
        """The phases; where none are configured, the whole run as one without a name."""
        return self.phases or (Phase(PhaseConfig.model_construct(name=""), 0, 0, self.steps),)

    def phase_of(self, step: int) -> Phase:
        """The phase that step `step` (counted from 0) belongs to."""
        return next((phase for phase in self.stretches if step < phase.end), self.stretches[-1])

    def steps_training(self, part: str, step: int) -> tuple[int, int]:
        """Of the steps that train a part of the model, those within the first `step` steps, and all."""
        training = [s for s in self.stretches if s.config.train is None or part in s.config.train]
        done = sum(min(max(0, step - phase.first), phase.steps) for phase in training)
        return done, sum(phase.steps for phase in training)


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
            few = f"{counted(steps, 'step')} {are(steps)} too few"
            message = f"{few} for the {len(configs)} phases of training.phases"
            raise UsageError(message, "give more --epochs or --steps")
        phases.append(Phase(config, len(phases), first, own))
        first += own
    return tuple(phases)


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Learning rate of step `step` (counted from 0) of a run, or of a phase, of `steps`.

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
