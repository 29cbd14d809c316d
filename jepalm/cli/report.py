"""`jepalm report`: what a run did, in the terminal and as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Run folders; two or more are compared. Default: runs/latest.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where to write. Default: RUN/report; of a comparison, FIRST_RUN/report/compare.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the analysis as JSON.")] = False,
) -> None:
    """Tell what a run did, and write a page with its figures.

    Example: jepalm report runs/latest
    """
    # Imported here so that `jepalm --help` stays fast.
    from jepalm.cli.console import console, line
    from jepalm.config import runs_root
    from jepalm.report.analysis.compare import compare
    from jepalm.report.analysis.summary import analyse
    from jepalm.report.read import read_run
    from jepalm.report.render.terminal import comparison_view, run_view
    from jepalm.report.render.write import check_writable, write_comparison, write_report

    records = [read_run(path) for path in runs or [runs_root() / "latest"]]
    first = records[0].run.report
    folder = out or (first if len(records) == 1 else first / "compare")
    check_writable(folder)
    summaries = [analyse(record) for record in records]
    if len(summaries) == 1:
        tree, view = summaries[0].as_json(), run_view(summaries[0])
        page = write_report(summaries[0], folder)
    else:
        comparison = compare(summaries)
        tree, view = comparison.as_json(), comparison_view(comparison)
        page = write_comparison(comparison, folder)
    if as_json:
        typer.echo(json.dumps({**tree, "page": str(page)}, indent=2, ensure_ascii=False, allow_nan=False))
        return
    console.print(view, soft_wrap=False)
    line("page", str(page))
