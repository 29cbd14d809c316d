"""The trainer: `train` reads like a table of contents, `_train_step` like the maths."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from rich.console import Console
from torch import Tensor, nn

from jepalm.config import Config
from jepalm.data.batches import Batch, Batches
from jepalm.errors import Interrupted, JepalmError, Stopped
from jepalm.hardware import Hardware
from jepalm.numbers import counted, duration
from jepalm.objective import Objective
from jepalm.run import RunFolder, now
from jepalm.shell import resuming
from jepalm.training.checkpoint import (
    STATE,
    Checkpoint,
    TrainingState,
    find_checkpoint,
    mark_best,
    prune,
    settle,
)
from jepalm.training.distributed import Processes, WholeModel
from jepalm.training.estimate import Estimate
from jepalm.training.flops import step_flops
from jepalm.training.gradients import encoder_gradients, gradient_norm
from jepalm.training.metrics import MetricLog, RecentSteps, StepValues
from jepalm.training.optimizer import build_optimizer, forget_at_boundary, set_learning_rate
from jepalm.training.peers import guarded
from jepalm.training.phases import scope_of
from jepalm.training.progress import TrainingProgress, validation_line
from jepalm.training.run_log import RunLog
from jepalm.training.schedule import Phase, Schedule, learning_rate
from jepalm.training.sharding import ShardedModel, is_sharded, whole
from jepalm.training.signals import StopSignal
from jepalm.training.watch import MOST_ROLLBACKS, SPIKE_WINDOW, fault_of, highest_spike

AGREE_EVERY = 10
"""Steps between asking the other processes whether one of them received a signal to stop."""


@dataclass(frozen=True)
class HeldOutResult:
    """What a validation measured.

    Attributes:
        values: `validation/...` metrics.
        samples: (source, target, generated) texts.
    """

    values: dict[str, float]
    samples: list[tuple[str, str, str]]


Validate = Callable[[Objective], HeldOutResult]


class Trainer:
    """Trains an objective on batches into a run folder.

    Args:
        run: the folder to write.
        config: the resolved config.
        objective: the module to train, on its device.
        batches: training batches, a function of the step.
        validate: measures the objective on held-out pairs; called at intervals by the first process.
        hardware: where and how to compute.
        processes: those that train this run.
        console: where progress is shown; None shows nothing.
        cost: what was found before: how long a step of each phase takes, and which parts no gradient reaches.
    """

    def __init__(
        self,
        run: RunFolder,
        config: Config,
        objective: Objective,
        batches: Batches,
        validate: Validate,
        hardware: Hardware,
        processes: Processes,
        console: Console | None,
        cost: Estimate | None = None,
    ) -> None:
        self.run, self.config, self.objective = run, config, objective
        self.batches, self.validate, self.hardware, self.processes = batches, validate, hardware, processes
        self.autocast = hardware.autocast()
        self.schedule = Schedule.of(config.training, batches.steps_per_pass)
        self.scopes = [scope_of(phase.config, objective) for phase in self.schedule.phases]
        self.phase, self.rates = self.schedule.phase_of(0), config.optimizer
        self.flops_by_kind: dict[tuple[int, tuple[str, ...]], int] = {}
        self.parallel = WholeModel(objective, hardware, processes)
        if is_sharded(hardware):
            self._flops()  # counted while the objective is whole
            self.parallel = ShardedModel(objective, hardware, processes)
        self.optimizer = build_optimizer(objective, config.optimizer)
        self.model: nn.Module = objective
        self.recent = RecentSteps(config.training.log_every, hardware.device)
        self.grad_norm = torch.tensor(math.nan)
        self.state = TrainingState()
        self.stop = StopSignal()
        self.saved_step = -1
        shown = console if processes.first else None
        self.untaught = cost.untaught if cost is not None else ()
        seconds_by_phase = cost.seconds_by_phase if cost is not None else None
        self.progress = TrainingProgress(shown, run, self.schedule, seconds_by_phase)
        self.log = RunLog(run, processes.first, self.progress.note)
        self.clock = self.logged_at = time.monotonic()
        self._enter(self.phase)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint: weights, optimizer, step; the rest follows from the step."""
        self._restore(checkpoint)
        self.state.resumed = [*self.state.resumed, checkpoint.step]
        if self.processes.first:
            settle(self.run, checkpoint, self.state, self.config.training.keep)

    def _restore(self, checkpoint: Checkpoint) -> None:
        self._enter(self.schedule.phase_of(checkpoint.step - 1))  # at a boundary the one that ends
        self.optimizer.state.clear()
        self.parallel.load(checkpoint, self.optimizer)
        self.state, self.saved_step = checkpoint.state(), checkpoint.step
        unlogged, self.state.unlogged = self.state.unlogged, {}
        try:
            self.recent.restore(unlogged, self.processes)
        except ValueError:
            message = f"{checkpoint.path / STATE} does not fit the terms of its config"
            raise JepalmError(message, "the run's config.yaml was changed after training") from None

    def train(self) -> None:
        """Train to the last step of the schedule.

        Raises:
            Interrupted: a signal came; everything was saved.
            JepalmError: the loss is not finite, or the last checkpoint could not be saved.
        """
        try:
            with self.stop, self.progress, guarded(self.processes.peers, self._bereft, self._give_up):
                self._begin()
                while self.state.step < self.schedule.steps and not self._out_of_patience():
                    self._begin_phase_if_due()
                    self._train_step()
                    self._log_if_due()
                    self._validate_if_due()
                    self._save_if_due()
                    self._stop_if_asked()
            self._end("finished", early=self._out_of_patience())
        except Interrupted:
            self._end("interrupted")
            raise
        except BaseException as error:
            with contextlib.suppress(JepalmError, OSError):  # the first error is the one to show
                stopped = isinstance(error, Stopped)
                self._end("interrupted" if stopped else "failed", error=str(error) or type(error).__name__)
            raise
        finally:
            self.log.close()

    def _begin(self) -> None:
        self.objective.train()
        self._wrap()
        step, resumed = self.state.step, self.state.resumed
        self.log.open(step if resumed else None)
        if resumed:
            self.log.event(step, "resumed")
        self.progress.start(step)
        self.clock = self.logged_at = time.monotonic()
        self._manifest(status="running", started=now(), steps=self.schedule.steps, resumed=resumed)
        if self.state.best_step >= 0:
            self._manifest(best=self._best())

    def _enter(self, phase: Phase) -> None:
        """Count the terms and train the parts of a phase; `self.model` must be wrapped after."""
        self.phase, self.rates = phase, phase.optimizer(self.config.optimizer)
        if self.scopes:
            self.objective.enter(self.scopes[phase.index])
        self.recent.count(self.objective.counted)

    def _wrap(self) -> None:
        """Wrap the objective for several processes and compile it, with what the phase trains."""
        self.model = self.objective  # lets go of what wrapped it before
        partial = bool(self.scopes or self.untaught) or self.objective.may_leave_out
        self.model = self.parallel.wrapped(partial=partial)
        if self.hardware.compile:
            torch.compiler.reset()  # another phase's graphs are of no use, and few are kept
            self.model = cast(nn.Module, torch.compile(self.model, dynamic=False))

    def _begin_phase_if_due(self) -> None:
        step = self.state.step
        phase = self.schedule.phase_of(step)
        if step != phase.first:
            return
        if phase != self.phase:
            self._enter(phase)
            forget_at_boundary(self.optimizer, self.objective)
            self.state.best, self.state.best_step = math.inf, -1  # losses of other terms do not compare
            self.state.lowest, self.state.not_lower = math.inf, 0
            self.state.losses = []
            self._wrap()
        if self.scopes:
            self.log.event(step, "phase", phase=phase.name, index=phase.index)
        if self.objective.weighting.reads_terms:
            self._begin_weighting(step)

    def _begin_weighting(self, step: int) -> None:
        """Give the weighting the terms of a phase's first step before that step is taken."""
        weighting = self.objective.weighting
        if not weighting.balanced:
            return
        seed_step(self.config.training.seed, step, self.processes.rank)
        terms = torch.zeros(len(weighting.balanced), device=self.hardware.device)
        with torch.no_grad(), self.autocast:
            for batch in self._batches_of(step):
                found = self.objective(batch).terms
                terms += torch.stack([found[name].float() for name in weighting.balanced])
        weighting.begin(self.processes.sum(terms))

    def _train_step(self) -> None:
        step = self.state.step
        set_learning_rate(self.optimizer, self._learning_rate(step))
        self.objective.before_step(step)
        self.state.flops += self._flops()
        log_due = self._log_due(step + 1)
        seed_step(self.config.training.seed, step, self.processes.rank)
        micro_batches = self._batches_of(step)
        self.recent.start(micro_batches[0].n_target_tokens)
        for place, batch in enumerate(micro_batches):
            last = place == len(micro_batches) - 1  # gradients are exchanged after that one alone
            if self.processes.world_size > 1:
                self.parallel.exchange_gradients(self.model, last)
            with self.autocast:
                losses = self.model(batch)
            (losses.total * self.processes.world_size).backward()
            self.recent.add(losses)
        self._clip_gradient(measure=log_due)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step = step + 1
        encoder_steps = self.schedule.steps_training("encoder", step + 1)
        self.objective.after_step(*encoder_steps, self._balanced_terms())

    def _batches_of(self, step: int) -> list[Batch]:
        return self.batches.at(step + self.state.skipped)

    def _learning_rate(self, step: int) -> float:
        return learning_rate(step - self.phase.first, self.phase.steps, self.rates)

    def _flops(self) -> int:
        """The step's operations; counted once a phase and set of left-out terms, on the first batch.

        So the same run counts the same, resumed or not; the widths of later batches make no difference. A
        sharded objective is counted with all its terms.
        """
        kind = self.phase.index, () if self.parallel.divided else self.objective.left_out
        if kind not in self.flops_by_kind:
            alone = step_flops(self.objective, self.batches.at(0), self.autocast)
            self.flops_by_kind[kind] = alone * self.processes.world_size
        return self.flops_by_kind[kind]

    def _clip_gradient(self, *, measure: bool) -> None:
        clip = self.config.optimizer.grad_clip
        if clip is not None:
            self.grad_norm = whole(nn.utils.clip_grad_norm_(self.objective.parameters(), clip))
        elif measure:
            self.grad_norm = gradient_norm(self.objective)

    def _balanced_terms(self) -> Tensor | None:
        """The terms of the step over all processes, for a weighting that reads them."""
        weighting = self.objective.weighting
        if not weighting.reads_terms:
            return None
        return self.processes.sum(self.recent.last(weighting.balanced))

    def _log_due(self, step: int) -> bool:
        """At log points, and before anything that must not be done with a loss that is not finite."""
        schedule = self.schedule
        intervals = (self.config.training.log_every, schedule.validate_every, schedule.checkpoint_every)
        return any(schedule.due(step, every) for every in intervals)

    def _log_if_due(self) -> None:
        step = self.state.step
        if not self._log_due(step):
            return
        seconds_before = self.recent.seconds
        seen = self.recent.take(self.processes)
        self._tick()
        if self._not_finite(seen):
            return
        elapsed = time.monotonic() - self.logged_at + seconds_before
        row: dict[str, Any] = {"phase": self.phase.name} if self.scopes else {}
        row |= self._moment() | seen.metrics(self.objective.all_terms)
        row |= {"train/lr": self._learning_rate(step - 1), "train/grad_norm": float(self.grad_norm)}
        if self.schedule.encoder_gradients_due(step) and not self.parallel.divided:
            row |= encoder_gradients(self.objective, self._batches_of(step - 1)[0], self.autocast)
        row |= {
            "train/flops": self.state.flops,
            "speed/steps_per_s": len(seen.raw) / elapsed,
            "speed/tokens_per_s": seen.target_tokens / elapsed,
            "batches": seen.by_step(),
        }
        self.logged_at = time.monotonic()
        if self.log.metrics is not None:
            self.log.metrics.write("train", step, row)
        self.progress.trained(step, row)
        self._flag_spike(seen)

    def _flag_spike(self, seen: StepValues) -> None:
        """Write an event of the step that jumps most since the last row, if one does."""
        losses = seen.raw[:, 0].tolist()
        spike = highest_spike(self.state.losses, losses)
        self.state.losses = [*self.state.losses, *losses][-SPIKE_WINDOW:]
        if spike is not None:
            step = self.state.step - len(losses) + spike.place + 1
            self.log.event(self.state.step, "spike", spike_step=step, loss=spike.loss, median=spike.median)

    def _moment(self) -> dict[str, float]:
        return {"epoch": self.state.step / self.schedule.steps_per_epoch, "time": self.state.seconds}

    def _not_finite(self, seen: StepValues) -> bool:
        """Whether a loss is not finite, or the last update made weights so; then it went to a checkpoint.

        Raises:
            JepalmError: it is not to go back, or has done so too often.
        """
        fault = fault_of(seen, self.objective)
        if fault is None:
            return False
        step = self.state.step - len(seen.raw) + fault.place + 1
        message = f"{fault.what} {step:,} is not finite: {fault.values}"
        saved = self.run.step_folders()
        goes_back = self.config.training.on_nonfinite == "rollback"
        if goes_back and saved and self.state.rollbacks < MOST_ROLLBACKS:
            self._roll_back(step, message)
            return True
        good = f"last good checkpoint {saved[0][1].name}" if saved else "no checkpoint was saved yet"
        self.log.event(step, "failed", reason="not finite")
        often = f" after {self.state.rollbacks} rollbacks" if self.state.rollbacks else ""
        raise JepalmError(
            f"{message}; {good}{often}", "lower optimizer.lr, or set training.on_nonfinite=rollback"
        )

    def _roll_back(self, step: int, message: str) -> None:
        """Go back to the newest checkpoint, and leave out its next batches up to that of a step."""
        before, phase = self.state, self.phase
        checkpoint = find_checkpoint(self.run)
        self._restore(checkpoint)
        if self.phase != phase:
            self._wrap()
        self.state.resumed, self.state.seconds = before.resumed, before.seconds
        self.state.flops = before.flops
        left_out = step - checkpoint.step
        self.state.rollbacks, self.state.skipped = before.rollbacks + 1, before.skipped + left_out
        self.log.open(checkpoint.step, repeated=("phase",))
        fields = {"step_not_finite": step, "batches_left_out": left_out, "rollbacks": self.state.rollbacks}
        self.log.event(checkpoint.step, "rollback", **fields)
        self.progress.note(f"warning: {message}; back to step {checkpoint.step:,}")
        self.logged_at = time.monotonic()

    def _validate_if_due(self) -> None:
        step = self.state.step
        if step == self.saved_step or not self.schedule.due(step, self.schedule.validate_every):
            return  # the first: back at a checkpoint
        measured = self.parallel.measured()
        if self.log.metrics is not None:
            measured.eval()
            with torch.no_grad(), self.autocast:
                result = self.validate(measured)
            self.objective.train()
            self._write_validation(self.log.metrics, step, result)
        if self.config.training.patience is not None:
            not_lower = self.state.not_lower if self.processes.first else 0  # the first alone validates
            self.state.not_lower = self.processes.max(not_lower)
        self._tick()
        self.logged_at = time.monotonic()

    def _write_validation(self, metrics: MetricLog, step: int, result: HeldOutResult) -> None:
        metrics.write("validation", step, self._moment() | result.values)
        for sample in result.samples:
            metrics.sample(step, *sample)
        first = result.samples[0][2] if result.samples else ""
        self.progress.validated(step, validation_line(result.values, self.config.model.target_dim, first))
        loss = result.values["validation/loss"]
        lower = loss < self.state.lowest
        self.state.not_lower = 0 if lower else self.state.not_lower + 1
        self.state.lowest = min(self.state.lowest, loss)
        saved_too = self._save_due()
        if saved_too and loss < self.state.best:
            self.state.best, self.state.best_step = loss, step

    def _out_of_patience(self) -> bool:
        """Whether the held-out loss has not fallen for as many validations as allowed, in the last phase."""
        patience, is_last = self.config.training.patience, self.phase.end == self.schedule.steps
        return patience is not None and is_last and self.state.not_lower >= patience

    def _save_due(self) -> bool:
        due = self.schedule.due(self.state.step, self.schedule.checkpoint_every)
        return due or self._out_of_patience()

    def _save_if_due(self) -> None:
        if self.state.step == self.saved_step or not self._save_due():
            return
        try:
            self._save()
        except JepalmError as error:
            if self.state.step >= self.schedule.steps or self._out_of_patience():
                raise
            self.log.degrade(f"{error}; training goes on without this checkpoint")
        self.logged_at = time.monotonic()

    def _save(self) -> None:
        try:
            self._write_checkpoint()
        finally:
            self.processes.barrier()

    def _write_checkpoint(self) -> None:
        self._tick()
        step = self.state.step
        checkpoint = self.parallel.save(self.run, self.optimizer, vars(self.state), self.log.flush)
        if checkpoint is None:
            return  # the first process wrote it
        self.saved_step = step
        if not self.processes.first:
            return
        if self.state.best_step == step:
            mark_best(checkpoint)
            self._manifest(best=self._best())
        prune(self.run, self.config.training.keep)
        self._manifest()

    def _best(self) -> dict[str, Any]:
        return {"step": self.state.best_step, "metric": "validation/loss", "value": self.state.best}

    def _stop_if_asked(self) -> None:
        step = self.state.step
        number = self.stop.number
        if self.processes.world_size > 1:
            number = self.processes.max(number) if step % AGREE_EVERY == 0 else 0
        if not number or step >= self.schedule.steps:
            return
        if len(self.recent) and not self._not_finite(self.recent.seen(self.processes)):
            elapsed = time.monotonic() - self.logged_at
            self.state.unlogged = self.recent.saved(self.processes, elapsed)
        step = self.state.step  # of the checkpoint, if the loss was not finite
        if not self.processes.max(int(self.processes.first and self.saved_step == step)):
            self._save()  # all of them, or none
        self.log.event(step, "interrupted")
        raise Interrupted(f"saved step {step:,}", f"go on with: {resuming(self.run)}", number)

    def _bereft(self, who: str) -> JepalmError:
        """What to say when another process died."""
        saved = self.run.step_folders()
        last = f"the last checkpoint is {saved[0][1].name}" if saved else "no checkpoint was saved yet"
        return JepalmError(f"{who} died; {last}", f"go on with: {resuming(self.run)}")

    def _give_up(self, error: JepalmError) -> None:
        """End this process, which waits for a dead one."""
        with contextlib.suppress(JepalmError, OSError):
            self._manifest(status="failed", ended=now(), error=str(error))
        sys.stderr.write(f"error: {error}\n")
        sys.stderr.flush()
        os._exit(error.exit_code)

    def _end(self, status: str, error: str | None = None, *, early: bool = False) -> None:
        self._tick()
        reason: dict[str, Any] = {"error": error} if error else {}
        if status == "finished":
            when = {"early": True} if early else {}
            self.log.event(self.state.step, status, **when)
            how = "finished early" if early else "finished  "
            self.progress.note(f"{how} {counted(self.state.step, 'step')} in {duration(self.state.seconds)}")
            reason |= {"finished_early": True} if early else {}
        self.log.flush()
        self._manifest(status=status, ended=now(), **reason)
        self.log.check_manifest()

    def _tick(self) -> None:
        moment = time.monotonic()
        self.state.seconds += moment - self.clock
        self.clock = moment

    def _manifest(self, **fields: Any) -> None:
        self.log.manifest(step=self.state.step, seconds=round(self.state.seconds, 2), **fields)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make the random numbers of a step a function of (seed, step, rank), resumed or not."""
    torch.manual_seed((seed * 1_000_003 + step) * 4_099 + rank)
