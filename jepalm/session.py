"""A training put together: data, hardware, objective, validation, run folder.

The command line and sweeps start here, so that both train alike.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from jepalm.atomic import sweep_temporary, write_atomically
from jepalm.config import (
    Config,
    apply_overrides,
    differences,
    dump,
    from_mapping,
    preset_names,
    read_config,
    resolve,
    runs_root,
)
from jepalm.data.batches import Batches
from jepalm.data.compatibility import check_data, view_lengths
from jepalm.data.ngram_expert import NGRAM, count_expert, read_expert
from jepalm.data.prepared import TOKENIZER, PreparedData, open_prepared
from jepalm.errors import JepalmError, UsageError
from jepalm.evaluation.validation.held_out import HeldOut
from jepalm.generation.teacher import find_teacher, load_teacher, with_teacher
from jepalm.hardware import Hardware, as_chosen, choose_hardware
from jepalm.model.recomputing import recompute_blocks
from jepalm.objective import JepalmObjective, Objective, build_objective
from jepalm.run import RunFolder, check_runs, create_run, data_of, locked, open_run
from jepalm.training.checkpoint import Checkpoint, find_checkpoint
from jepalm.training.distributed import Processes, join_processes
from jepalm.training.estimate import Estimate, estimate
from jepalm.training.phases import scope_of, settled
from jepalm.training.schedule import Schedule
from jepalm.training.trainer import Trainer
from jepalm.training.tuning import TimedChoice, tune

FIXED_ON_RESUME = {
    "training.batch_size",
    "training.micro_batch_size",
    "training.seed",
    "training.steps_per_epoch",
}
MAY_CHANGE = ("training.", "hardware.", "model.gradient_checkpointing")


@dataclass(frozen=True)
class Session:
    """Everything a training needs, before anything is written."""

    config: Config
    prepared: PreparedData
    hardware: Hardware
    processes: Processes
    batches: Batches
    objective: Objective
    schedule: Schedule
    held_out: HeldOut
    resumed: tuple[RunFolder, Checkpoint] | None = None
    timed: Sequence[TimedChoice] = ()

    @property
    def unread_actions(self) -> bool:
        """Whether the data has actions that the model does not read."""
        model = self.config.model
        ignores = model.family == "jepalm" and model.action.conditioning == "none"
        return ignores and self.prepared.meta.has_action

    def cost(self) -> Estimate:
        """Time a few steps here.

        A run that was killed after its last step costs nothing and is only closed.

        Raises:
            UsageError: the run is finished, or a phase teaches nothing.
        """
        done = self.resumed[1].step if self.resumed else 0
        if done >= self.schedule.steps:
            if self.resumed is not None and self.resumed[0].read_manifest().get("status") != "finished":
                return Estimate(0.0, 0, 0, 0)
            hint = "give more --epochs or --steps"
            raise UsageError(f"nothing left to train: step {done:,} of {self.schedule.steps:,}", hint)
        return estimate(self.objective, self.batches, self.config, self.hardware, done)

    def open_folder(self, runs: Path, name: str | None, cost: Estimate) -> RunFolder:
        """The folder to train in: the resumed run's, or one made by the first process."""
        path = ""
        if self.processes.first:
            if self.resumed is not None:
                run = self.resumed[0]
            else:
                name = name or self.config.preset
                prepared = self.prepared
                files: dict[str, str | bytes] = {TOKENIZER: prepared.tokenizer.to_json()}
                if isinstance(self.objective, JepalmObjective) and self.objective.expert is not None:
                    sha = prepared.meta.content_sha256
                    files[NGRAM] = self.objective.expert.as_file(prepared.tokenizer, sha)
                run = create_run(runs, name, dump(self.config), self._manifest(cost), files)
            path = str(run.path)
        return RunFolder(Path(self.processes.broadcast(path)))

    def train(self, run: RunFolder, console: Console | None, cost: Estimate | None = None) -> None:
        """Train in the folder; see `Trainer.train` for what it raises.

        Args:
            run: what `open_folder` gave.
            console: where progress is shown; None shows nothing.
            cost: what `cost` found.
        """
        with locked(run) if self.processes.first and self.resumed is None else nullcontext():
            if self.processes.first:
                sweep_temporary(run.path)
            trainer = Trainer(
                run,
                self.config,
                self.objective,
                self.batches,
                self.held_out,
                self.hardware,
                self.processes,
                console,
                cost,
            )
            if self.resumed is not None:
                if self.processes.first:
                    write_atomically(run.config, dump(self.config))
                trainer.resume(self.resumed[1])
            trainer.train()

    def _manifest(self, cost: Estimate) -> dict[str, Any]:
        parts, meta, hardware = self.objective.parameters_by_part(), self.prepared.meta, self.hardware
        return {
            "preset": self.config.preset,
            "torch": torch.__version__,
            "device": str(hardware.device),
            "device_name": hardware.name,
            "precision": hardware.precision,
            "threads": hardware.threads,
            "timed": [asdict(choice) for choice in self.timed],
            "compiled": hardware.compile,
            "world_size": self.processes.world_size,
            "parallel": hardware.parallel,
            "seed": self.config.training.seed,
            "parameters": {"total": sum(parts.values()), **parts},
            "terms": [asdict(term) for term in self.objective.terms],
            "data": {
                "name": self.config.data.name,
                "folder": str(self.prepared.path),
                "corpus": meta.corpus,
                "pairing": meta.pairing,
                "has_action": meta.has_action,
                "canonical": meta.origin.canonical,
                "source": meta.origin.source,
                "licence": meta.licence,
                "splits": {name: {"pairs": n.pairs, "tokens": n.tokens} for name, n in meta.splits.items()},
                "content_sha256": meta.content_sha256,
            },
            "steps": self.schedule.steps,
            "steps_per_epoch": self.schedule.steps_per_epoch,
            "flops_per_step": cost.flops_per_step,
        }


@contextmanager
def new_session(config: Config, data_root: Path, runs: Path | None = None) -> Iterator[Session]:
    """Put a new training together.

    Args:
        config: the resolved config.
        data_root: folder of prepared data.
        runs: folder of runs, where a teacher is looked for; the usual one when None.

    Raises:
        UsageError: data, device, teacher or sizes are not to be had.
    """
    runs = runs or runs_root()
    with _session(with_teacher(config, runs), data_root, runs, None) as session:
        yield session


def untrained_teacher(config: Config, runs: Path) -> Config | None:
    """The config that trains the teacher of a run, if that is a preset of which no run is finished.

    It has the data and the hardware of the run that it is to teach.

    Args:
        config: of the run.
        runs: folder of runs, where the teacher is looked for.

    Raises:
        UsageError: there is no such teacher, nor a preset of its name.
    """
    name = config.objective.coupling.teacher
    if name is None:
        return None
    try:
        find_teacher(name, runs)
    except UsageError:
        if name not in preset_names():
            raise
        hardware = {f"hardware.{key}": value for key, value in config.hardware.model_dump().items()}
        return resolve(name, flags={"data.name": config.data.name, **hardware})
    return None


@contextmanager
def resumed_session(
    path: Path, flags: dict[str, Any], settings: list[str], data_root: Path
) -> Iterator[Session]:
    """Put a run together again at its newest whole checkpoint.

    Args:
        path: the run's folder.
        flags: changed settings by dotted key; length, intervals, phases to come and hardware may change.
        settings: the same, as `section.key=value`.
        data_root: folder of prepared data.

    Raises:
        UsageError: no such run, no checkpoint, or a change that would make it another run.
        JepalmError: its data was changed since.
    """
    run = RunFolder(open_run(path).path.resolve())
    first = os.environ.get("RANK", "0") == "0"
    with contextlib.ExitStack() as held:
        if first:
            held.enter_context(locked(run))
            check_runs(run.path, "make the folder writable")
        config = _changed(run, flags, settings)
        checkpoint = find_checkpoint(run)
        session = held.enter_context(_session(config, data_root, run.path.parent, (run, checkpoint)))
        known = data_of(run.read_manifest()).get("content_sha256")
        if known != session.prepared.meta.content_sha256:
            hint = "prepare the same text again, or train anew"
            raise JepalmError(f"{session.prepared.path} was changed since {run.name} was trained", hint)
        yield session


@contextmanager
def _session(
    config: Config, data_root: Path, runs: Path, resumed: tuple[RunFolder, Checkpoint] | None
) -> Iterator[Session]:
    prepared = open_prepared(config.data.name, data_root)
    check_data(config, prepared)
    asked = config.hardware if resumed is None else as_chosen(config.hardware, resumed[0].read_manifest())
    hardware = choose_hardware(asked, _planned_steps(config))
    with join_processes(hardware) as processes:
        torch.manual_seed(config.training.seed)
        objective = build_objective(config.model, config.objective, prepared.meta.vocab_size, hardware)
        if config.model.gradient_checkpointing and config.model.backbone is None:
            recompute_blocks(objective)
        if config.objective.coupling.teacher is not None:
            assert isinstance(objective, JepalmObjective)
            teacher = find_teacher(config.objective.coupling.teacher, runs)
            objective.couple(load_teacher(teacher, config, prepared, config.hardware))
        if order := config.model.decoder.ngram:
            assert isinstance(objective, JepalmObjective)
            if resumed is not None:
                sha, hint = prepared.meta.content_sha256, "train anew"
                read_expert(resumed[0].path, prepared.tokenizer, order, sha, hint)
            objective.expert = count_expert(prepared, order)
            if hardware.compile:
                objective.expert.keep_out_of_graphs()
        batches = _batches(config, prepared, "train", hardware, processes)
        if resumed is not None:
            old, done = read_config(resumed[0].config).training, resumed[1].step
            training = settled(old, config.training, batches.steps_per_pass, done)
            config = config.model_copy(update={"training": training})
        schedule = Schedule.of(config.training, batches.steps_per_pass)
        for phase in schedule.phases:
            scope_of(phase.config, objective)
        timed: list[TimedChoice] = []
        if resumed is None and processes.world_size == 1:
            hardware, timed = tune(objective, batches, config, hardware)
        held_out = _held_out(config, prepared, hardware)
        yield Session(
            config, prepared, hardware, processes, batches, objective, schedule, held_out, resumed, timed
        )


def _held_out(config: Config, prepared: PreparedData, hardware: Hardware) -> HeldOut:
    training = config.training
    batches = _batches(config, prepared, "validation", hardware, Processes())
    exact = prepared.meta.pairing == "pairs"
    fixed = batches.fixed(training.validation_batches)
    return HeldOut(fixed, prepared.tokenizer, training.samples, exact=exact)


def _planned_steps(config: Config) -> int:
    """Steps of the run if the config alone says, else many; 0 of a backbone, compiled only if asked."""
    if config.model.backbone is not None:
        return 0
    training = config.training
    a_long_epoch = 1_000_000
    return training.steps or training.epochs * (training.steps_per_epoch or a_long_epoch)


def _batches(
    config: Config, prepared: PreparedData, split: str, hardware: Hardware, processes: Processes
) -> Batches:
    source_len, target_len = view_lengths(config, prepared.meta)
    return Batches(
        prepared.split("train" if split == "train" else "validation"),
        batch_size=config.training.batch_size,
        source_len=source_len,
        target_len=target_len,
        seed=config.training.seed,
        device=hardware.device,
        rank=processes.rank,
        world_size=processes.world_size,
        micro_batch_size=config.training.micro_batch_size,
        action_len=config.model.longest_action,
        tokens_per_latent=config.model.latent.tokens,
        end_targets=config.model.family == "jepalm" and config.model.decoder.autoregressive,
        static_shapes=hardware.compile and split == "train",
        spans=config.data.spans,
        keep_starts=config.model.decoder.ngram > 0 and split == "train",
    )


def _changed(run: RunFolder, flags: dict[str, Any], settings: list[str]) -> Config:
    """The run's config with the changes of a resumption, which must be allowed ones."""
    old = read_config(run.config)
    tree = old.model_dump()
    apply_overrides(tree, [*(f"{key}={value}" for key, value in flags.items()), *settings])
    new = from_mapping(tree)
    for key, (before, after) in differences(old, new).items():
        if key in FIXED_ON_RESUME or not key.startswith(MAY_CHANGE):
            message = f"{key} cannot change on resuming: {run.name} has {before}, asked {after}"
            raise UsageError(message, "start a new run for that")
    return new
