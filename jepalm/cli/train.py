"""`jepalm train`: from config and prepared data to a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from jepalm.run import RunFolder
    from jepalm.session import Session
    from jepalm.training.estimate import Estimate

LONG_RUN_S = 600
QUICK_PRESET = "nano"
QUICK_PRESET_TAKES = "about 1 min on two CPU cores"


def train(
    settings: Annotated[
        list[str] | None, typer.Argument(help="section.key=value, such as model.dim=128", show_default=False)
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Recipe to start from; jepalm presets lists all.  [default: shakespeare]", show_default=False
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    data: Annotated[str | None, typer.Option(help="Prepared data: a name, or a folder.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs to train.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps to train, instead of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights and data order.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N, mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16.")] = None,
    compile: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Compile the model.", show_default=False)
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with a run, such as runs/latest.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; the preset's when not given.")] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Folder of runs.  [default: runs]", show_default=False)
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of prepared data.  [default: data]", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, time a few steps, write nothing.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Train a missing teacher first, without asking.")
    ] = False,
) -> None:
    """Train a model.

    Examples: jepalm train --epochs 10; jepalm train --preset nano model.dim=128
    """
    flags: dict[str, Any] = {
        "data.name": data,
        "training.epochs": epochs,
        "training.steps": steps,
        "training.batch_size": batch_size,
        "optimizer.lr": lr,
        "training.seed": seed,
        "hardware.device": device,
        "hardware.precision": precision,
        "hardware.compile": compile,
    }
    flags = {key: value for key, value in flags.items() if value is not None}
    from jepalm.cli.console import line
    from jepalm.cli.teaching import with_teacher
    from jepalm.config import data_root, resolve, runs_root
    from jepalm.errors import UsageError
    from jepalm.session import new_session, resumed_session

    runs = runs_root(run_dir)
    if resume is not None:
        given = {"--preset": preset, "--config": config, "--name": name, "--run-dir": run_dir}
        for flag, value in given.items():
            if value is not None:
                raise UsageError(f"{flag} does not go with --resume", "the run keeps its own")
        opened = resumed_session(resume, flags, settings or [], data_root(data_dir))
    else:
        resolved = resolve(preset, config, flags, settings)
        if not dry_run:
            resolved = with_teacher(resolved, runs, data_root(data_dir), agreed=yes)
        opened = new_session(resolved, data_root(data_dir), runs)
    with opened as session:
        if dry_run:
            cost = session.cost()  # by every process, as a training's steps are
            if session.together.first:
                _introduce(session, cost, runs)
            return
        run = perform(session, runs, name)
        if session.together.first:
            line("next", f"{_example(session)}   ·   jepalm report {run.path}")


def perform(
    session: Session, runs: Path, name: str | None, before: Callable[[], None] | None = None
) -> RunFolder:
    """Show what will be trained, and train it.

    Args:
        session: what to train.
        runs: folder of runs.
        name: of the run; the preset's when None.
        before: is called when all is shown and nothing is written.
    """
    from jepalm.cli.console import console, line

    cost = session.cost()
    if session.together.first:
        _introduce(session, cost, runs)
    if before is not None:
        before()
    run = session.open_folder(runs, name, cost)
    if session.together.first:
        line("run", str(run.path))
    session.train(run, console, cost)
    return run


def _introduce(session: Session, cost: Estimate, runs: Path) -> None:
    """Print what will be trained and what it costs here."""
    import shutil

    from jepalm.cli.console import errors, line
    from jepalm.numbers import three
    from jepalm.training.progress import duration

    config, batches, plan = session.config, session.batches, session.plan
    done = session.resumed[1].step if session.resumed else 0
    parts = session.objective.parameters_by_part()
    inside = " · ".join(f"{part} {_millions(count)}" for part, count in parts.items())
    seconds = cost.seconds_per_step * (plan.steps - done)
    free = shutil.disk_usage(_existing(runs)).free
    line("model", f"{config.preset}, {_millions(sum(parts.values()))} parameters ({inside})")
    line("data", f"{session.prepared.path}, {batches.n_pairs:,} pairs, batch {config.training.batch_size}")
    if batches.truncated:
        line("", f"{batches.truncated:,} pairs are longer than the model and are cut")
    if session.unread_actions:
        line("", "its actions are not read: model.action.conditioning is none")
    line("hardware", session.hardware.describe())
    going_on = f", going on from step {done:,}" if done else ""
    line("steps", f"{plan.steps_per_epoch:,} an epoch, {plan.steps:,} in all{going_on}")
    for phase in plan.phases:
        pace = cost.by_phase.get(phase.name)
        timed = f"{three(1000 * pace)} ms a step (timed)" if pace is not None else "done"
        line("" if phase.index else "phases", f"{phase.name}, {phase.steps:,} steps, {timed}")
    line(
        "cost",
        f"{three(1000 * cost.seconds_per_step)} ms a step (timed)"
        f" · {three(cost.flops_per_step / 1e9)} GFLOP a step · {cost.memory / 1e6:.0f} MB memory"
        f" · {cost.disk / 1e6:.0f} MB disk ({free / 1e9:.0f} GB free)",
    )
    line("time", f"about {duration(seconds)} here")
    if seconds > LONG_RUN_S and config.preset != QUICK_PRESET:
        line("", f"quick look instead: jepalm train --preset {QUICK_PRESET}   ({QUICK_PRESET_TAKES})")
    if cost.disk > free:
        errors.print("warning: the checkpoints of this run may not fit on the disk")


def _example(session: Session) -> str:
    if session.prepared.meta.has_action and not session.unread_actions:
        return "jepalm generate STATE --action ACTION"
    fills = session.prepared.meta.pairing == "spans"
    return 'jepalm infill "To be, or ____ to be"' if fills else 'jepalm generate "To be"'


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 10_000 else f"{count:,}"


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())
