"""The trainer: `train` reads like a table of contents, `_train_step` like the maths."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from rich.console import Console
from torch import nn

from jepalm.config import Config
from jepalm.data.batches import Batches
from jepalm.errors import Interrupted, JepalmError
from jepalm.hardware import Hardware
from jepalm.objective import Objective
from jepalm.run import RunFolder, now
from jepalm.training.balance import Balance
from jepalm.training.checkpoint import (
    Checkpoint,
    load_model,
    load_optimizer,
    mark_best,
    prune,
    save_checkpoint,
)
from jepalm.training.distributed import Processes
from jepalm.training.flops import StepFlops
from jepalm.training.gradients import gradient_norm, gradients_by_term, norms_and_cosines
from jepalm.training.metrics import MetricLog, StepBuffer
from jepalm.training.optimizer import build_optimizer, forget_at_boundary, set_learning_rate
from jepalm.training.phases import scope_of
from jepalm.training.progress import TrainingProgress, duration, validation_line
from jepalm.training.randomness import seed_step
from jepalm.training.schedule import Phase, Plan
from jepalm.training.signals import StopSignal

AGREE_EVERY = 10
"""Steps between asking the other processes whether one of them was told to stop."""


@dataclass(frozen=True)
class HeldOutResult:
    """What a validation measured.

    Attributes:
        values: `validation/...` figures.
        samples: (source, target, generated) texts.
    """

    values: dict[str, float]
    samples: list[tuple[str, str, str]]


Validate = Callable[[Objective], HeldOutResult]


@dataclass
class TrainingState:
    """What changes while training beside the tensors, and is saved with them."""

    step: int = 0
    seconds: float = 0.0
    flops: int = 0
    best: float = float("inf")
    best_step: int = -1
    resumed: list[int] = field(default_factory=list)


class Trainer:
    """Trains an objective on batches into a run folder.

    Args:
        run: the folder to write.
        config: the resolved config.
        objective: the module to train, on its device.
        batches: training batches, a function of the step.
        validate: measures the objective on held-out pairs; called at intervals by the first process.
        hardware: where and how to compute.
        together: the processes that train this run.
        console: where progress is shown; None shows nothing.
        paces: seconds a step of each phase by its name, where they were estimated.
    """

    def __init__(
        self,
        run: RunFolder,
        config: Config,
        objective: Objective,
        batches: Batches,
        validate: Validate,
        hardware: Hardware,
        together: Processes,
        console: Console | None,
        paces: Mapping[str, float] | None = None,
    ) -> None:
        self.run, self.config, self.objective = run, config, objective
        self.batches, self.validate, self.hardware, self.together = batches, validate, hardware, together
        self.console = console if together.first else None
        self.plan = Plan.of(config.training, batches.steps_per_pass)
        self.paces = paces or {}
        self.scopes = [scope_of(phase.config, objective) for phase in self.plan.phases]
        self.optimizer = build_optimizer(objective, config.optimizer)
        self.balance = Balance(objective, config.training.seed, hardware, together)
        self.state = TrainingState()
        self.stop = StopSignal()
        self.log: MetricLog | None = None
        self.flops = StepFlops(objective, batches, hardware, together)
        self._grad_norm = torch.tensor(float("nan"))
        self._tokens = 0
        self._clock = self._logged_at = time.monotonic()
        self._enter(self.plan.phase_of(0))

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint: weights, optimizer, step; the rest follows from the step."""
        self._enter(self.plan.phase_of(checkpoint.step - 1))  # at a boundary the one that ends
        load_model(checkpoint, self.objective)
        load_optimizer(checkpoint, self.objective, self.optimizer)
        saved = checkpoint.state()
        self.state = TrainingState(**{**saved, "resumed": [*saved["resumed"], checkpoint.step]})

    def train(self) -> None:
        """Train to the last step of the plan.

        Raises:
            Interrupted: a signal came; everything was saved.
            JepalmError: the loss is not finite, or the last checkpoint could not be saved.
        """
        start = self.state.step
        self._begin()
        try:
            with (
                self.stop,
                TrainingProgress(self.console, self.run, self.plan, start, self.paces) as self.shown,
            ):
                while self.state.step < self.plan.steps:
                    self._begin_phase_if_due()
                    self._train_step()
                    self._log_if_due()
                    self._validate_if_due()
                    self._save_if_due()
                    self._stop_if_asked()
            self._end("finished")
        except Interrupted:
            self._end("interrupted")
            raise
        except BaseException as error:
            with contextlib.suppress(JepalmError, OSError):  # the first error is the one to show
                self._end("failed", error=str(error) or type(error).__name__)
            raise
        finally:
            if self.log is not None:
                self.log.close()

    def _begin(self) -> None:
        self.objective.train()
        self._wrap()
        self.log = self._open_log() if self.together.first else None
        self._clock = self._logged_at = time.monotonic()
        self._manifest(status="running", started=now(), steps=self.plan.steps, resumed=self.state.resumed)

    def _enter(self, phase: Phase) -> None:
        """Count and teach what the phase says; `self.model` must be wrapped after."""
        self.phase = phase
        if self.scopes:
            self.objective.enter(self.scopes[phase.index])
        terms, capacity = self.objective.term_names, self.config.training.log_every
        self.recent = StepBuffer(["loss", *terms], capacity, self.hardware.device, missing=math.nan)
        self.weighted_terms = StepBuffer(terms, capacity, self.hardware.device)
        self._weights: dict[str, float | torch.Tensor] = dict(self.objective.counted)

    def _wrap(self) -> None:
        """Wrap the objective as the phase teaches it: for several processes, compiled."""
        self.model: nn.Module = self.objective  # lets go of what wrapped it before
        partial = bool(self.scopes) or self.objective.may_leave_out
        model = self.together.wrap(self.objective, self.hardware, partial=partial)
        self.model = cast(nn.Module, torch.compile(model)) if self.hardware.compile else model

    def _begin_phase_if_due(self) -> None:
        step = self.state.step
        phase = self.plan.phase_of(step)
        if step != phase.first:
            return
        if phase != self.phase:
            self._enter(phase)
            forget_at_boundary(self.optimizer, self.objective)
            self.state.best, self.state.best_step = float("inf"), -1  # losses of other terms do not compare
            self._wrap()
        if self.scopes and self.log is not None:
            self.log.write("event", step, {"event": "phase", "phase": phase.name, "index": phase.index})
        self.balance.begin(step, self.batches.at(step))

    def _open_log(self) -> MetricLog:
        resumed_at = self.state.step if self.state.resumed else None
        log = MetricLog(self.run, resumed_at)
        if resumed_at is not None:
            log.write("event", resumed_at, {"event": "resumed"})
        return log

    def _train_step(self) -> None:
        step = self.state.step
        set_learning_rate(self.optimizer, self.phase.learning_rate(step, self.config.optimizer))
        self.objective.before_step(step)
        self.state.flops += self.flops.of_step(self.phase.index)
        seed_step(self.config.training.seed, step, self.together.rank)
        micro_batches = self.batches.at(step)
        self.recent.start()
        self.weighted_terms.start()
        for place, batch in enumerate(micro_batches):
            with self.together.accumulate(self.model, last=place == len(micro_batches) - 1):
                with self.hardware.autocast():
                    losses = self.model(batch)
                (losses.total * self.together.world_size).backward()
            self.recent.add({"loss": losses.total, **losses.terms})
            self.weighted_terms.add(
                {name: losses.weights[name] * term for name, term in losses.terms.items()}
            )
        self._weights.update(losses.weights)
        self._tokens += micro_batches[0].n_target_tokens
        clip = self.config.optimizer.grad_clip
        if clip is not None:
            self._grad_norm = nn.utils.clip_grad_norm_(self.objective.parameters(), clip)
        elif self._log_due(step + 1):
            self._grad_norm = gradient_norm(self.objective)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step = step + 1
        learned = self.plan.learned("encoder", step + 1)
        self.objective.after_step(*learned, self.balance.terms(self.recent))

    def _log_due(self, step: int) -> bool:
        """At log points, and before anything that must not be done with a loss that is not finite."""
        plan = self.plan
        intervals = (self.config.training.log_every, plan.validate_every, plan.checkpoint_every)
        return any(plan.due(step, every) for every in intervals)

    def _log_if_due(self) -> None:
        if self._log_due(self.state.step):
            self._write_train_row()

    def _write_train_row(self) -> None:
        step = self.state.step
        values = self.together.total(self.recent.take()).cpu()  # (steps, 1 + terms)
        weighted_terms = self.together.total(self.weighted_terms.take()).mean(0).tolist()
        self._tick()
        first_step = step - len(values)
        self._stop_if_not_finite(values, first_step)
        elapsed = time.monotonic() - self._logged_at
        loss, *terms = values.nanmean(0).tolist()  # not a number: left out of all these steps
        names = self.objective.term_names
        silent = [name for name in self.objective.all_terms if name not in names]
        row: dict[str, Any] = {
            **({"phase": self.phase.name} if self.scopes else {}),
            "epoch": step / self.plan.steps_per_epoch,
            "time": self.state.seconds,
            "train/loss": loss,
            **{
                f"train/term/{name}": value
                for name, value in zip(names, terms, strict=True)
                if not math.isnan(value)
            },
            **{f"train/weight/{name}": float(self._weights[name]) for name in names},
            **{
                f"train/share/{name}": weighted_term / sum(weighted_terms) if sum(weighted_terms) else 0.0
                for name, weighted_term in zip(names, weighted_terms, strict=True)
            },
            **{f"train/{kind}/{name}": 0.0 for kind in ("weight", "share") for name in silent},
            "train/lr": self.phase.learning_rate(step - 1, self.config.optimizer),
            "train/grad_norm": float(self._grad_norm),
            **self._encoder_gradients(step - 1),
            "train/flops": self.state.flops,
            "speed/steps_per_s": len(values) / elapsed,
            "speed/tokens_per_s": self._tokens / elapsed,
            "batches": {name: values[:, 1 + i].tolist() for i, name in enumerate(names)},
        }
        self._tokens, self._logged_at = 0, time.monotonic()
        if self.log is not None:
            self.log.write("train", step, row)
        self.shown.trained(step, row)

    def _encoder_gradients(self, step: int) -> dict[str, float]:
        parameters = [p for p in self.objective.encoder_parameters() if p.requires_grad]
        if not parameters:
            return {}
        batch = self.batches.at(step)[0]
        with self.hardware.autocast():
            losses = self.objective(batch)
        norms, cosines = norms_and_cosines(gradients_by_term(losses, parameters))
        return {
            **{f"train/grad_norm_encoder/{name}": value for name, value in norms.items()},
            **{f"train/grad_cosine/{a}/{b}": value for (a, b), value in cosines.items()},
        }

    def _stop_if_not_finite(self, values: torch.Tensor, first_step: int) -> None:
        """Stop for a loss that is not finite, or weights that the last update made so."""
        bad = (~torch.isfinite(values[:, 0])).nonzero().flatten().tolist()  # a term's fault is the loss's
        weights = nn.utils.get_total_norm([p.detach() for p in self.objective.parameters()])
        if not bad and bool(torch.isfinite(weights)):
            return
        place = bad[0] if bad else len(values) - 1
        what = "the loss of step" if bad else "what is learned in step"
        row = values[place].tolist()
        step = first_step + place + 1
        terms = ", ".join(f"{name} {value:.4g}" for name, value in zip(self.recent.names, row, strict=True))
        saved = sorted(self.run.checkpoints.glob("step-*"))
        good = f"last good checkpoint {saved[-1].name}" if saved else "no checkpoint was saved yet"
        if self.log is not None:
            self.log.write("event", step, {"event": "failed", "reason": "not finite"})
        raise JepalmError(f"{what} {step:,} is not finite: {terms}; {good}", "lower optimizer.lr")

    def _validate_if_due(self) -> None:
        step = self.state.step
        if not self.plan.due(step, self.plan.validate_every):
            return
        if self.together.first:
            self.objective.eval()
            with torch.no_grad(), self.hardware.autocast():
                result = self.validate(self.objective)
            self.objective.train()
            self._write_validation(step, result)
        self._tick()
        self._logged_at = time.monotonic()

    def _write_validation(self, step: int, result: HeldOutResult) -> None:
        assert self.log is not None
        place = {"epoch": step / self.plan.steps_per_epoch, "time": self.state.seconds}
        self.log.write("validation", step, {**place, **result.values})
        for sample in result.samples:
            self.log.sample(step, *sample)
        first = result.samples[0][2] if result.samples else ""
        self.shown.validated(step, validation_line(result.values, self.config.model.target_dim, first))
        saved_too = self.plan.due(step, self.plan.checkpoint_every)
        if saved_too and result.values["validation/loss"] < self.state.best:
            self.state.best, self.state.best_step = result.values["validation/loss"], step

    def _save_if_due(self) -> None:
        if not self.plan.due(self.state.step, self.plan.checkpoint_every):
            return
        try:
            self._save()
        except JepalmError as error:
            if self.state.step >= self.plan.steps:
                raise
            self.shown.note(f"warning: {error}; training goes on without this checkpoint")
        self._logged_at = time.monotonic()

    def _save(self) -> None:
        try:
            if self.together.first:
                self._write_checkpoint()
        finally:
            self.together.wait()

    def _write_checkpoint(self) -> None:
        self._tick()
        step, best = self.state.step, self.state.best_step
        checkpoint = save_checkpoint(self.run, self.objective, self.optimizer, vars(self.state))
        if best == step:
            mark_best(checkpoint)
            self._manifest(best={"step": best, "metric": "validation/loss", "value": self.state.best})
        prune(self.run, self.config.training.keep)
        self._manifest()

    def _stop_if_asked(self) -> None:
        step = self.state.step
        alone = self.together.world_size == 1
        number = self.stop.number if alone else 0
        if not alone and step % AGREE_EVERY == 0:
            number = self.together.agree(self.stop.number)
        if not number or step >= self.plan.steps:
            return
        if self.recent.filled:
            self._grad_norm = torch.tensor(float("nan"))  # the gradient of this step is gone
            self._write_train_row()
        self._save()
        if self.log is not None:
            self.log.write("event", step, {"event": "interrupted"})
        hint = f"go on with: jepalm train --resume {self.run.path}"
        raise Interrupted(f"saved step {step:,}", hint, number)

    def _end(self, status: str, error: str | None = None) -> None:
        self._tick()
        if self.log is not None and status == "finished":
            self.log.write("event", self.state.step, {"event": status})
            spent = duration(self.state.seconds)
            self.shown.note(f"finished   {self.state.step:,} steps in {spent}")
        self._manifest(status=status, ended=now(), **({"error": error} if error else {}))

    def _tick(self) -> None:
        moment = time.monotonic()
        self.state.seconds += moment - self._clock
        self._clock = moment

    def _manifest(self, **fields: Any) -> None:
        if self.together.first:
            step, seconds = self.state.step, round(self.state.seconds, 2)
            self.run.update_manifest(step=step, seconds=seconds, **fields)
