"""`jepalm runs`: the runs there are, and without `--prune` nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jepalm.cli.options import JsonOption, RunDirOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jepalm.report.runs import RunEntry

COLUMNS = ("run", "preset", "status", "step", "best", "age", "size")


def runs(
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Propose to delete those that failed or have no checkpoint, and ask. Never the latest, one"
            " that is being trained, or a teacher.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --prune, delete without asking.")] = False,
    run_dir: RunDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the runs, the newest first: preset, status, step, best held-out loss, age and size.

    Example: jepalm runs --prune
    """
    from jepalm.cli.console import line, print_json, show_rows
    from jepalm.config import runs_root
    from jepalm.errors import UsageError
    from jepalm.report.runs import list_runs
    from jepalm.shell import command

    if yes and not prune:
        raise UsageError("--yes goes with --prune", "leave it out, or give both")
    root = runs_root(run_dir)
    entries = list_runs(root)
    if prune:
        entries = [entry for entry in entries if entry.needless]
        _prune(entries, command("runs", prune=True, yes=True, run_dir=run_dir), yes=yes, as_json=as_json)
        return
    if as_json:
        print_json({"folder": str(root), "runs": [_as_json(entry) for entry in entries]})
        return
    if not entries:
        line("runs", f"none in {root}: jepalm train makes one")
        return
    show_rows([_cells(entry) for entry in entries], COLUMNS)
    for entry in entries:
        if entry.problem:
            line("broken", f"{entry.name}: {entry.problem}")
    if any(entry.needless for entry in entries):
        line("prune", command("runs", prune=True, run_dir=run_dir))


def _prune(entries: Sequence[RunEntry], again: str, *, yes: bool, as_json: bool) -> None:
    """Show what may be deleted, ask, and delete it; a program must say `--yes` beforehand."""
    from jepalm.cli.console import line, on_terminal, print_json
    from jepalm.data.writing import size
    from jepalm.errors import JepalmError
    from jepalm.numbers import counted
    from jepalm.report.runs import remove_run

    total = size(sum(entry.n_bytes for entry in entries))
    what = f"{counted(len(entries), 'run')}, {total}"
    if not as_json:
        for entry in entries:
            line("needless", f"{entry.name}: {entry.needless}, {size(entry.n_bytes)}")
        if not entries:
            line("needless", "none")
            return
    if not yes and (as_json or not on_terminal() or not typer.confirm(f"delete {what}?")):
        if as_json:
            print_json({"needless": [_as_json(entry) for entry in entries], "deleted": []})
        else:
            line("next", again)
        return
    deleted, refused = [], []
    for entry in entries:
        try:
            remove_run(entry)
            deleted.append(entry)
        except JepalmError as error:
            refused.append(error)
    if as_json:
        print_json(
            {"needless": [_as_json(entry) for entry in entries], "deleted": [entry.name for entry in deleted]}
        )
    else:
        freed = size(sum(entry.n_bytes for entry in deleted))
        line("deleted", f"{counted(len(deleted), 'run')}, {freed}")
    if refused:
        raise refused[0]


def _cells(entry: RunEntry) -> tuple[str, ...]:
    from jepalm.data.writing import size
    from jepalm.numbers import NOTHING, age, three

    name = f"{entry.name} (latest)" if entry.latest else entry.name
    step = NOTHING if entry.step is None else f"{entry.step:,}"
    if entry.steps is not None:
        step += f"/{entry.steps:,}"
    best, old = three(entry.best), age(entry.seconds_old)
    return name, entry.preset or NOTHING, entry.status, step, best, old, size(entry.n_bytes)


def _as_json(entry: RunEntry) -> dict[str, Any]:
    import math
    from dataclasses import asdict

    best = entry.best if entry.best is not None and math.isfinite(entry.best) else None
    return {
        **asdict(entry),
        "path": str(entry.path),
        "best": best,
        "seconds_old": round(entry.seconds_old),
        "needless": entry.needless,
    }
