"""How long a run is and which learning rate each step has: pure functions of the config and the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jepalm.config import OptimizerConfig, TrainingConfig

VALIDATIONS_A_RUN = 20


@dataclass(frozen=True)
class Plan:
    """A run in steps.

    Attributes:
        steps: optimizer steps in all.
        steps_per_epoch: steps that count as an epoch.
        validate_every: steps between validations; the last step always validates.
        checkpoint_every: steps between checkpoints; the last step always saves.
    """

    steps: int
    steps_per_epoch: int
    validate_every: int
    checkpoint_every: int

    @classmethod
    def of(cls, config: TrainingConfig, steps_per_pass: int) -> Plan:
        """Work out the plan from the config and the steps of one pass over the training pairs."""
        steps_per_epoch = config.steps_per_epoch or steps_per_pass
        steps = config.steps or config.epochs * steps_per_epoch
        validate_every = config.validate_every or max(1, steps // VALIDATIONS_A_RUN)
        return cls(steps, steps_per_epoch, validate_every, config.checkpoint_every or validate_every)

    def due(self, step: int, every: int) -> bool:
        """Whether something that happens `every` steps is due after `step` steps are done."""
        return step % every == 0 or step == self.steps


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
