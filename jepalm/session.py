"""A training session put together: data, hardware, objective, validation, run folder.

The command line and whatever trains many runs in a row start here, so that both train alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from jepalm.config import (
    Config,
    SpansConfig,
    apply_overrides,
    differences,
    dump,
    from_mapping,
    read_config,
    runs_root,
)
from jepalm.data.backbone_tokenizer import load_backbone_tokenizer
from jepalm.data.batches import Batches
from jepalm.data.prepared import Meta, PreparedData, open_prepared
from jepalm.errors import JepalmError, UsageError
from jepalm.evaluation.validation.jepalm import HeldOut
from jepalm.generation.loading import TOKENIZER
from jepalm.generation.teacher import find_teacher, load_teacher
from jepalm.hardware import Hardware, choose_hardware
from jepalm.objective import JepalmObjective, Objective, build_objective
from jepalm.run import RunFolder, create_run, locked, open_run, write_atomically
from jepalm.training.checkpoint import Checkpoint, find_checkpoint
from jepalm.training.distributed import Processes, processes
from jepalm.training.estimate import Estimate, estimate
from jepalm.training.phases import scope_of, settled
from jepalm.training.schedule import Plan
from jepalm.training.trainer import Trainer

FIXED_ON_RESUME = {
    "training.batch_size",
    "training.micro_batch_size",
    "training.seed",
    "training.steps_per_epoch",
}


@dataclass(frozen=True)
class Session:
    """Everything a training needs, before anything is written."""

    config: Config
    prepared: PreparedData
    hardware: Hardware
    together: Processes
    batches: Batches
    objective: Objective
    plan: Plan
    resumed: tuple[RunFolder, Checkpoint] | None = None

    @property
    def unread_actions(self) -> bool:
        """Whether the data has actions that the model does not read."""
        model = self.config.model
        ignores = model.family == "jepalm" and model.action.conditioning == "none"
        return ignores and self.prepared.meta.has_action

    def cost(self) -> Estimate:
        """Time a few steps here.

        Raises:
            UsageError: the run has no step left, or a phase that teaches nothing.
        """
        done = self.resumed[1].step if self.resumed else 0
        if done >= self.plan.steps:
            hint = "give more --epochs or --steps"
            raise UsageError(f"nothing left to train: step {done:,} of {self.plan.steps:,}", hint)
        return estimate(self.objective, self.batches, self.config, self.hardware, done)

    def open_folder(self, runs: Path, name: str | None, cost: Estimate) -> RunFolder:
        """The folder to train in: the resumed run's, or one made by the first process."""
        path = ""
        if self.together.first:
            if self.resumed is not None:
                run = self.resumed[0]
            else:
                name = name or self.config.preset
                run = create_run(runs, name, dump(self.config), self._manifest(cost))
                self.prepared.tokenizer.save(run.path / TOKENIZER)
            path = str(run.path)
        return RunFolder(Path(self.together.share(path)))

    def train(self, run: RunFolder, console: Console | None, cost: Estimate | None = None) -> None:
        """Train in the folder; see `Trainer.train` for what it raises.

        Args:
            run: what `open_folder` gave.
            console: where progress is shown; None shows nothing.
            cost: lets the progress know how long other phases take.
        """
        with locked(run) if self.together.first else nullcontext():
            trainer = Trainer(
                run,
                self.config,
                self.objective,
                self.batches,
                self._held_out(),
                self.hardware,
                self.together,
                console,
                cost.by_phase if cost is not None else None,
            )
            if self.resumed is not None:
                if self.together.first:
                    write_atomically(run.config, dump(self.config))
                trainer.resume(self.resumed[1])
            trainer.train()

    def _held_out(self) -> HeldOut:
        training, alone = self.config.training, Processes()
        batches = _batches(self.config, self.prepared, "validation", self.hardware, alone)
        exact = self.prepared.meta.pairing == "pairs"
        fixed = batches.fixed(training.validation_batches)
        return HeldOut(fixed, self.prepared.tokenizer, training.samples, exact=exact)

    def _manifest(self, cost: Estimate) -> dict[str, Any]:
        parts, meta, hardware = self.objective.parameters_by_part(), self.prepared.meta, self.hardware
        return {
            "preset": self.config.preset,
            "torch": torch.__version__,
            "device": str(hardware.device),
            "device_name": hardware.name,
            "precision": hardware.precision,
            "threads": hardware.threads,
            "compiled": hardware.compile,
            "world_size": self.together.world_size,
            "seed": self.config.training.seed,
            "parameters": {"total": sum(parts.values()), **parts},
            "data": {
                "name": self.config.data.name,
                "corpus": meta.corpus,
                "pairing": meta.pairing,
                "has_action": meta.has_action,
                "canonical": meta.origin.canonical,
                "content_sha256": meta.content_sha256,
            },
            "steps": self.plan.steps,
            "steps_per_epoch": self.plan.steps_per_epoch,
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
    name = config.objective.coupling.teacher
    if name is not None:
        config = _taught_by(config, str(find_teacher(name, runs).path))
    with _session(config, data_root, runs, None) as session:
        yield session


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
    config = _changed(run, flags, settings)
    checkpoint = find_checkpoint(run)
    with _session(config, data_root, run.path.parent, (run, checkpoint)) as session:
        known = run.read_manifest().get("data", {}).get("content_sha256")
        if known != session.prepared.meta.content_sha256:
            hint = "prepare the same text again, or train anew"
            raise JepalmError(f"{session.prepared.path} was changed since {run.name} was trained", hint)
        yield session


@contextmanager
def _session(
    config: Config, data_root: Path, runs: Path, resumed: tuple[RunFolder, Checkpoint] | None
) -> Iterator[Session]:
    prepared = open_prepared(config.data.name, data_root)
    _check_pairing(config, prepared.meta.pairing)
    _check_tokenizer(config, prepared)
    _check_actions(config, prepared.meta.has_action)
    hardware = choose_hardware(config.hardware, _planned_steps(config))
    with processes(hardware) as together:
        torch.manual_seed(config.training.seed)
        objective = build_objective(config.model, config.objective, prepared.meta.vocab_size, hardware)
        if config.objective.coupling.teacher is not None:
            assert isinstance(objective, JepalmObjective)
            teacher = find_teacher(config.objective.coupling.teacher, runs)
            objective.couple(load_teacher(teacher, config, prepared, config.hardware))
        batches = _batches(config, prepared, "train", hardware, together)
        if resumed is not None:
            old, done = read_config(resumed[0].config).training, resumed[1].step
            training = settled(old, config.training, batches.steps_per_pass, done)
            config = config.model_copy(update={"training": training})
        plan = Plan.of(config.training, batches.steps_per_pass)
        for phase in plan.phases:
            scope_of(phase.config, objective)
        yield Session(config, prepared, hardware, together, batches, objective, plan, resumed)


def _taught_by(config: Config, teacher: str) -> Config:
    """The config with the folder of its teacher in place of a name."""
    coupling = config.objective.coupling.model_copy(update={"teacher": teacher})
    objective = config.objective.model_copy(update={"coupling": coupling})
    return config.model_copy(update={"objective": objective})


def _check_tokenizer(config: Config, prepared: PreparedData) -> None:
    """Check that the data was prepared with the backbone's tokenizer.

    Raises:
        UsageError: it was not, or the backbone's cannot be read.
    """
    name = config.model.backbone
    if name is None:
        return
    if load_backbone_tokenizer(name).text.to_json() != prepared.tokenizer.to_json():
        message = f"{prepared.path} was not prepared with the tokenizer of {name}"
        raise UsageError(message, f"prepare it with --tokenizer {name}")


def _planned_steps(config: Config) -> int:
    """Steps of the run where the config alone tells them, else many; a backbone is compiled only if asked."""
    if config.model.backbone is not None:
        return 0
    training = config.training
    a_long_epoch = 1_000_000
    return training.steps or training.epochs * (training.steps_per_epoch or a_long_epoch)


def _batches(
    config: Config, prepared: PreparedData, split: str, hardware: Hardware, together: Processes
) -> Batches:
    source_len, target_len = _view_lengths(config, prepared.meta)
    return Batches(
        prepared.split("train" if split == "train" else "validation"),
        batch_size=config.training.batch_size,
        source_len=source_len,
        target_len=target_len,
        seed=config.training.seed,
        device=hardware.device,
        rank=together.rank,
        world_size=together.world_size,
        micro_batch_size=config.training.micro_batch_size,
        action_len=config.model.longest_action,
        tokens_per_latent=config.model.latent.tokens,
        static_shapes=hardware.compile and split == "train",
        spans=config.data.spans,
    )


def _view_lengths(config: Config, meta: Meta) -> tuple[int, int]:
    """Most tokens of a source and of a target.

    A causal model reads a window as its first token and the `context_len` that it predicts.

    Raises:
        UsageError: a pair does not fit the context, or windows are to be learned in part.
    """
    model = config.model
    if model.family == "causal":
        context = model.causal.context_len
        if meta.pairing == "windows":
            if config.objective.next_token.loss_on != "all":
                message = "objective.next_token.loss_on=target does nothing with windows"
                raise UsageError(message, "a window has no source: train on lines or pairs")
            return 1, context
        lengths = {"source_len": model.source_len, "target_len": model.target_len}
        if meta.has_action:
            lengths["action_len"] = model.longest_action
        ends = len(lengths) - 1  # behind each part but the target
        if sum(lengths.values()) + ends > context:
            parts = " + ".join(f"model.{key} {length}" for key, length in lengths.items())
            raise UsageError(
                f"{parts} + {ends} for the ends between is more than model.causal.context_len {context}",
                f"set model.causal.context_len={sum(lengths.values()) + ends}",
            )
    return model.source_len, model.target_len


def _check_pairing(config: Config, pairing: str) -> None:
    """Check the settings that go with hidden spans only, with two views, and not with hidden spans.

    Raises:
        UsageError: the data has another pairing than a setting needs.
    """
    model, objective = config.model, config.objective
    if pairing == "windows" and objective.latent.weight > 0:
        message = f"objective.latent.weight does nothing with {config.data.name}, whose pairing is windows"
        raise UsageError(message, "a window has no second view: train on lines or pairs")
    if pairing != "spans":
        only = {
            "data.spans": config.data.spans != SpansConfig(),
            "objective.local.weight": objective.local.weight > 0,
        }
        for key in (key for key, asked in only.items() if asked):
            message = f"{key} does nothing with {config.data.name}, whose pairing is {pairing}"
            raise UsageError(message, "prepare the text with --pairing spans for it")
        return
    if model.family != "jepalm":
        message = f"model.family={model.family} does not go with data of pairing spans"
        raise UsageError(message, "prepare the text with --pairing windows for it")
    if objective.length.kind != "none":
        message = "hidden spans have no length to predict: their places are given"
        raise UsageError(message, "set objective.length.kind=none, or take --preset shakespeare-spans")
    if model.source_len != model.target_len or model.source_len < 2:
        sizes = f"model.source_len {model.source_len} and model.target_len {model.target_len}"
        message = f"{sizes} do not go with hidden spans, which lie inside the source"
        raise UsageError(message, "set both to the same, 2 or more")
    if model.predictor.intermediate_logits:
        message = "model.predictor.intermediate_logits does not go with hidden spans"
        raise UsageError(message, "what is hidden next need not follow: set it to false")
    if model.latent.tokens > 1:
        message = f"model.latent.tokens={model.latent.tokens} does not go with hidden spans"
        raise UsageError(message, "one latent would hold hidden and visible tokens: set it to 1")


def _check_actions(config: Config, has_action: bool) -> None:
    """Check that there are actions where the model is conditioned on them.

    Raises:
        UsageError: the data has none.
    """
    if config.model.action.conditioning != "none" and not has_action:
        message = f"{config.data.name} has no actions, and this model is conditioned on one"
        raise UsageError(message, "train on transitions, or set model.action.conditioning=none")


def _changed(run: RunFolder, flags: dict[str, Any], settings: list[str]) -> Config:
    """The run's config with what may be changed on resuming."""
    old = read_config(run.config)
    tree = old.model_dump()
    apply_overrides(tree, [*(f"{key}={value}" for key, value in flags.items()), *settings])
    new = from_mapping(tree)
    for key, (before, after) in differences(old, new).items():
        if key in FIXED_ON_RESUME or not key.startswith(("training.", "hardware.")):
            message = f"{key} cannot change on resuming: {run.name} has {before}, asked {after}"
            raise UsageError(message, "start a new run for that")
    return new
