"""`jepalm train`: from config and prepared data to a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jepalm.cli.options import DataDirOption, RunDirOption
from jepalm.cli.torch_import import import_torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from jepalm.config import Config
    from jepalm.run import RunFolder
    from jepalm.session import Session


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
    run_dir: RunDirOption = None,
    data_dir: DataDirOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, time a few steps, write nothing.")
    ] = False,
    devices: Annotated[
        int | None, typer.Option(min=1, help="With --dry-run: what the run takes on so many GPUs.")
    ] = None,
    gpu: Annotated[str, typer.Option(help="With --devices: which GPUs.")] = "H100",
    mfu: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=1, help="With --devices: share of the peak.  [default: 0.4]", show_default=False
        ),
    ] = None,
    price: Annotated[
        float | None,
        typer.Option(min=0, help="With --devices: price of a GPU for an hour.", show_default=False),
    ] = None,
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
    import_torch()
    from jepalm.cli.console import line
    from jepalm.cli.introduction import introduce
    from jepalm.config import data_root, resolve, runs_root
    from jepalm.errors import UsageError
    from jepalm.run import check_runs
    from jepalm.session import new_session, resumed_session

    runs = runs_root(run_dir)
    if devices is not None and (resume is not None or not dry_run):
        hint = "a training on several: torchrun --nproc-per-node=N -m jepalm train"
        raise UsageError("--devices goes with --dry-run of a new run", hint)
    if resume is not None:
        given = {"--preset": preset, "--config": config, "--name": name, "--run-dir": run_dir}
        for flag, value in given.items():
            if value is not None:
                raise UsageError(f"{flag} does not go with --resume", "the run keeps its own")
        opened = resumed_session(resume, flags, settings or [], data_root(data_dir))
    else:
        resolved = resolve(preset, config, flags, settings)
        if devices is not None and dry_run:
            from jepalm.cli.forecast import show_forecast

            show_forecast(resolved, data_root(data_dir), devices, gpu, mfu, price)
            return
        check_runs(runs)
        if yes or not dry_run:
            trained = _train_teacher_first(resolved, runs, data_dir, agreed=yes, dry_run=dry_run)
            if not trained:
                return
        opened = new_session(resolved, data_root(data_dir), runs)
    with opened as session:
        if dry_run:
            cost = session.cost()  # by every process, as a training's steps are
            if session.processes.first:
                introduce(session, cost, runs)
            return
        run = _train(session, runs, name)
        if session.processes.first:
            for number, command in enumerate(_next_commands(session, run)):
                line("" if number else "next", command)


def _train_teacher_first(
    config: Config, runs: Path, data_dir: Path | None, *, agreed: bool, dry_run: bool
) -> bool:
    """Train a missing teacher, if the user agrees: beforehand, or when asked on a terminal.

    Whether there is a teacher now, or none is needed; a dry run only shows what would be trained first.

    Raises:
        UsageError: nobody agreed, or there is no such teacher.
    """
    from jepalm.cli.console import line, on_terminal
    from jepalm.cli.introduction import introduce
    from jepalm.config import data_root, runs_root
    from jepalm.errors import UsageError
    from jepalm.session import new_session, untrained_teacher
    from jepalm.shell import training

    teacher = untrained_teacher(config, runs)
    if teacher is None:
        return True
    missing = f"no finished run {teacher.preset} in {runs} to be the teacher"
    moved = runs if runs != runs_root() else None
    first = training(teacher.preset, teacher.data.name, run_dir=moved, data_dir=data_dir)
    hint = f"train it first: {first}, or give --yes"
    if not agreed and not on_terminal():
        raise UsageError(missing, hint)

    def ask() -> None:
        if not agreed and not typer.confirm(f"train the teacher {teacher.preset} first?"):
            raise UsageError(missing, hint)

    line("teacher", missing)
    with new_session(teacher, data_root(data_dir), runs) as session:
        if dry_run:
            cost = session.cost()
            if session.processes.first:
                introduce(session, cost, runs)
            return False
        _train(session, runs, None, before=ask)
    return True


def _train(
    session: Session, runs: Path, name: str | None, before: Callable[[], None] = lambda: None
) -> RunFolder:
    """Show what will be trained, and train it.

    Args:
        session: what to train.
        runs: folder of runs.
        name: of the run; the preset's when None.
        before: called when all is shown and nothing is written.
    """
    from jepalm.cli.console import console, line
    from jepalm.cli.introduction import introduce

    cost = session.cost()
    if session.processes.first:
        introduce(session, cost, runs)
    before()
    run = session.open_folder(runs, name, cost)
    if session.processes.first:
        line("run", str(run.path))
    session.train(run, console, cost)
    return run


def _next_commands(session: Session, run: RunFolder) -> list[str]:
    """What to do with a run: let it write, and report on it."""
    from jepalm.data.example import example_of
    from jepalm.shell import command, named_run

    example = example_of(session.prepared)
    action = None if session.unread_actions else example.action
    name = "infill" if session.prepared.meta.pairing == "spans" else "generate"
    return [command(name, example.text, action=action, run=named_run(run)), command("report", run.path)]
