"""`jepalm train` of a run that learns from a teacher: the teacher is trained first where it is missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jepalm.config import Config
    from jepalm.errors import UsageError
    from jepalm.run import RunFolder


def with_teacher(config: Config, runs: Path, data: Path, *, agreed: bool) -> Config:
    """The config with a teacher that is there.

    Where it names a preset of which there is no finished run, that one is trained, if the user agrees:
    beforehand, or when asked on a terminal, where its cost is shown first.

    Args:
        config: of the run to train.
        runs: folder of runs, where the teacher is looked for and trained.
        data: folder of prepared data.
        agreed: whether to ask nothing.

    Raises:
        UsageError: there is no such teacher, and it may not be trained.
    """
    from jepalm.errors import UsageError
    from jepalm.generation.teacher import find_teacher

    name = config.objective.coupling.teacher
    if name is None:
        return config
    try:
        find_teacher(name, runs)
    except UsageError as missing:
        return _taught_by(config, str(_train_teacher(name, missing, config, runs, data, agreed).path))
    return config


def _train_teacher(
    name: str, missing: UsageError, config: Config, runs: Path, data: Path, agreed: bool
) -> RunFolder:
    """Train a preset as the teacher, unless it is none or nobody agrees; then raise what is missing."""
    import typer

    from jepalm.cli.console import line
    from jepalm.cli.train import perform
    from jepalm.config import preset_names
    from jepalm.errors import UsageError
    from jepalm.session import new_session

    if name not in preset_names():
        raise missing from None
    refused = UsageError(missing.message, f"{missing.hint}, or give --yes")
    if not agreed and not on_terminal():
        raise refused from None

    def ask() -> None:
        if not agreed and not typer.confirm(f"train the teacher {name} first?"):
            raise refused from None

    line("teacher", missing.message)
    with new_session(teacher_config(name, config), data, runs) as session:
        return perform(session, runs, None, before=ask)


def on_terminal() -> bool:
    """Whether there is someone to ask."""
    import sys

    return sys.stdin.isatty()


def teacher_config(name: str, config: Config) -> Config:
    """The config of a preset on the data and the hardware of the run that it is to teach."""
    from jepalm.config import resolve

    hardware = config.hardware.model_dump()
    flags = {"data.name": config.data.name, **{f"hardware.{key}": hardware[key] for key in hardware}}
    return resolve(name, flags=flags)


def _taught_by(config: Config, teacher: str) -> Config:
    coupling = config.objective.coupling.model_copy(update={"teacher": teacher})
    objective = config.objective.model_copy(update={"coupling": coupling})
    return config.model_copy(update={"objective": objective})
