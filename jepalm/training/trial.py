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
from jepalm.training.gradients import encoder_gradients
from jepalm.training.metrics import RecentSteps
from jepalm.training.optimizer import build_optimizer, set_learning_rate
from jepalm.training.phases import scope_of
from jepalm.training.schedule import Phase, Schedule
from jepalm.training.sharding import is_sharded, shard

PARTS = ("data", "forward", "backward", "optimizer")


class Trial:
    """Steps of the trainer's arithmetic on a copy of the objective, in the last phase if none is given.

    The learning rate is 0, so that every step finds the same weights. Left out are log rows, validation and
    checkpoints; the gradients on the encoder that go into some rows are timed by themselves.
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
        phase = phase or Schedule.of(config.training, batches.steps_per_pass).stretches[-1]
        if phase.name:
            self.objective.enter(scope_of(phase.config, self.objective))
        self.model = (
            cast(nn.Module, torch.compile(self.objective, dynamic=False)) if compiled else self.objective
        )
        if is_sharded(hardware):
            shard(self.objective, hardware)
        self.optimizer = build_optimizer(self.objective, config.optimizer)
        self.batches, self.autocast, self.clip = batches, hardware.autocast(), config.optimizer.grad_clip
        self.recent = RecentSteps(1, hardware.device)
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
        self.recent.count(self.objective.counted)
        self.recent.start(micro_batches[0].n_target_tokens)
        for batch in micro_batches:
            with self.autocast:
                losses = self.model(batch)
            self.recent.add(losses)
            done("forward")
            if any(term.requires_grad for term in losses.terms.values()):
                losses.total.backward()
            done("backward")
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.objective.parameters(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        weighting = self.objective.weighting
        terms = self.recent.last(weighting.balanced) if weighting.reads_terms else None
        self.objective.after_step(number + 1, number + 1, terms)
        done("optimizer")

    def measure_encoder_gradients(self, number: int) -> None:
        """Measure each term's gradient on the encoder as the trainer does for some rows."""
        encoder_gradients(self.objective, self.batches.at(number)[0], self.autocast)
