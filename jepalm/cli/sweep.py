"""`jepalm sweep`: rows of changed settings under several seeds, compared in one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jepalm.cli.options import DataDirOption, RunDirOption

if TYPE_CHECKING:
    from jepalm.sweep.running import Sweeping


def sweep(
    file: Annotated[Path, typer.Argument(help="YAML file of base, rows or grid, and seeds.")],
    jobs: Annotated[
        int, typer.Option(min=1, max=64, help="Trainings at once, each on its share of the cores.")
    ] = 1,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="A run, or a row, measured as a control; a causal one scores."),
    ] = None,
    scorer: Annotated[
        str | None, typer.Option(metavar="RUN", help="A causal run, or a row, that scores all text.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show what is missing, write nothing.")
    ] = False,
    run_dir: RunDirOption = None,
    data_dir: DataDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as one JSON object.")] = False,
) -> None:
    """Train rows of changed settings under several seeds, and compare them with the first.

    Trains what is missing; stopped, it goes on when called again.

    Example: jepalm sweep examples/sweep-shakespeare.yaml --jobs 2
    """
    from jepalm.cli.console import console, errors, line, print_json
    from jepalm.config import data_root, runs_root
    from jepalm.errors import Interrupted
    from jepalm.report.render.several import sweep_document
    from jepalm.report.render.terminal import view
    from jepalm.report.render.write import write_sweep
    from jepalm.shell import command
    from jepalm.sweep.file import read_sweep
    from jepalm.sweep.running import Sweeping

    sweeping = Sweeping(read_sweep(file, baseline, scorer), runs_root(run_dir), data_root(data_dir))
    if dry_run:
        _show_plan(sweeping)
        return
    shown = errors if as_json else console
    stopped: Interrupted | None = None
    if sweeping.open_cells():
        try:
            sweeping.train(jobs, lambda text: shown.print(text, markup=False))
        except Interrupted as interrupted:
            stopped = interrupted
            many = str(jobs) if jobs > 1 else None
            given = {"baseline": baseline, "scorer": scorer, "run_dir": run_dir, "data_dir": data_dir}
            stopped.hint = f"go on with: {command('sweep', file, jobs=many, **given)}"
    table = sweeping.table()
    sweeping.folder.mkdir(parents=True, exist_ok=True)
    page = write_sweep(table, sweeping.folder)
    if stopped is not None:
        raise stopped
    if as_json:
        print_json({**table.as_json(), "page": str(page)})
    else:
        console.print(view(sweep_document(table, drawn=False)), soft_wrap=False)
        line("page", str(page))
    if any(row.troubles for row in table.rows):
        raise typer.Exit(1)


def _show_plan(sweeping: Sweeping) -> None:
    """Print how much is missing, and what each row changes."""
    from collections import Counter

    from jepalm.cli.console import line
    from jepalm.numbers import counted

    sweep = sweeping.sweep
    cells = sweeping.cells()
    size = f"{counted(len(sweep.rows), 'row')} x {counted(len(sweep.seeds), 'seed')}"
    line("sweep", f"{sweep.name}: {size} in {sweeping.folder}")
    for status, count in Counter(cell.status for cell in cells).items():
        line(status, f"{count} of {len(cells)}")
    for row in sweep.rows:
        changes = ", ".join(f"{key}={value}" for key, value in sweep.changes(row).items())
        line("row", f"{row.name}: {changes or 'no changes'}")
