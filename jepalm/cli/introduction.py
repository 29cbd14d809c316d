"""What will be trained and what it costs here, on a few lines."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from jepalm.cli.console import errors, line
from jepalm.numbers import are, counted, duration, three
from jepalm.run import nearest_existing

if TYPE_CHECKING:
    from jepalm.session import Session
    from jepalm.training.estimate import Estimate

LONG_RUN_S = 600
QUICK_PRESET = "nano"
QUICK_PRESET_TAKES = "about 1 min on two CPU cores"


def introduce(session: Session, cost: Estimate, runs: Path) -> None:
    """Print what will be trained and what it costs here."""
    config, batches, schedule = session.config, session.batches, session.schedule
    done = session.resumed[1].step if session.resumed else 0
    parts = session.objective.parameters_by_part()
    inside = " · ".join(f"{part} {_millions(count)}" for part, count in parts.items())
    seconds = cost.seconds_per_step * (schedule.steps - done)
    free = shutil.disk_usage(nearest_existing(runs)).free
    line("model", f"{config.preset}, {_millions(sum(parts.values()))} parameters ({inside})")
    line(
        "data",
        f"{session.prepared.path}, {counted(batches.n_pairs, 'pair')}, batch {config.training.batch_size}",
    )
    if batches.truncated:
        line(
            "", f"{counted(batches.truncated, 'pair')} {are(batches.truncated)} longer than the model and cut"
        )
    if cost.untaught:
        errors.print(f"warning: no term teaches {' and '.join(cost.untaught)}: no gradient flows there")
    if session.unread_actions:
        line("", "its actions are not read: model.action.conditioning is none")
    tried = [choice for choice in session.timed if choice.seconds is not None]
    how = f", the fastest of {len(tried)} timed" if len(tried) > 1 else ""
    line("hardware", session.hardware.describe() + how)
    going_on = f", going on from step {done:,}" if done else ""
    line("steps", f"{schedule.steps_per_epoch:,} an epoch, {schedule.steps:,} in all{going_on}")
    for phase in schedule.phases:
        a_step = cost.seconds_by_phase.get(phase.name)
        timed = f"{three(1000 * a_step)} ms a step (timed)" if a_step is not None else "done"
        line("" if phase.index else "phases", f"{phase.name}, {counted(phase.steps, 'step')}, {timed}")
    line(
        "cost",
        f"{three(1000 * cost.seconds_per_step)} ms a step (timed)"
        f" · {three(cost.flops_per_step / 1e9)} GFLOP a step · {cost.memory / 1e6:.0f} MB memory"
        f" · {cost.disk / 1e6:.0f} MB disk ({free / 1e9:.0f} GB free)",
    )
    line("time", f"about {duration(seconds, digits=2)} here")
    if seconds > LONG_RUN_S and not config.preset.startswith(QUICK_PRESET):
        line("", f"quick look instead: {_quick_look(session)}   ({QUICK_PRESET_TAKES})")
    if cost.disk > free:
        errors.print("warning: the checkpoints of this run may not fit on the disk")


def _quick_look(session: Session) -> str:
    """The command that trains a small model on the same data."""
    from jepalm.shell import named_data_dir, training

    data, name = session.prepared, session.config.data.name
    preset = f"{QUICK_PRESET}-spans" if data.meta.pairing == "spans" else QUICK_PRESET
    return training(preset, name, data_dir=named_data_dir(data.path, name))


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 10_000 else f"{count:,}"
