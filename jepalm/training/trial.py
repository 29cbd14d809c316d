"""Training steps to be timed, on a copy of the objective."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from jepalm.config import Config
from jepalm.data.batches import Batches
from jepalm.hardware import Hardware
from jepalm.objective import Objective
from jepalm.training.optimizer import build_optimizer, set_learning_rate
from jepalm.training.phases import scope_of
from jepalm.training.schedule import Phase, Plan

PARTS = ("data", "forward", "backward", "optimizer")


class Trial:
    """Steps of the trainer's arithmetic on a copy of the objective, in the last phase if none is given.

    The learning rate is 0, so that every step finds the same weights. Left out are log rows, validation,
    checkpoints, and the further backward passes that GradNorm asks for now and then.
    """

    def __init__(
        self,
        objective: Objective,
        batches: Batches,
        config: Config,
        hardware: Hardware,
        phase: Phase | None = None,
        *,
        compiled: bool = False,
    ) -> None:
        self.objective = copy.deepcopy(objective).train()
        phase = phase or Plan.of(config.training, batches.steps_per_pass).stretches[-1]
        if phase.name:
            self.objective.enter(scope_of(phase.config, self.objective))
        self.model = cast(nn.Module, torch.compile(self.objective)) if compiled else self.objective
        self.optimizer = build_optimizer(self.objective, config.optimizer)
        self.batches, self.hardware, self.clip = batches, hardware, config.optimizer.grad_clip
        set_learning_rate(self.optimizer, 0.0)

    def step(self, number: int, done: Callable[[str], None] = lambda part: None) -> None:
        """Do the step of the batch of this number.

        Args:
            number: counts from 0.
            done: called with the name of each of `PARTS` that is over, in each micro batch anew.
        """
        self.objective.before_step(number)
        micro_batches = self.batches.at(number)
        done("data")
        balanced = self.objective.weighting.balanced if self.objective.weighting.reads_terms else []
        terms = torch.zeros(len(balanced), device=self.hardware.device)
        for batch in micro_batches:
            with self.hardware.autocast():
                losses = self.model(batch)
            if balanced:
                terms += torch.stack([losses.terms[name].detach().float() for name in balanced])
            done("forward")
            if any(term.requires_grad for term in losses.terms.values()):
                losses.total.backward()
            done("backward")
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.objective.parameters(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.objective.after_step(number + 1, number + 1, terms if balanced else None)
        done("optimizer")
