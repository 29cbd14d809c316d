"""`jepalm report`: what a run did, in the terminal and as a page."""

from __future__ import annotations

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
    """Show what a run did, and write a page with its plots.

    Example: jepalm report runs/latest
    """
    # Imported here so that `jepalm --help` stays fast.
    from jepalm.cli.console import console, line, print_json
    from jepalm.config import runs_root
    from jepalm.report.comparison import compare
    from jepalm.report.read import read_run
    from jepalm.report.render.run import run_document
    from jepalm.report.render.several import comparison_document
    from jepalm.report.render.terminal import view
    from jepalm.report.render.write import check_writable, write
    from jepalm.report.summary import analyse

    records = [read_run(path) for path in runs or [runs_root() / "latest"]]
    first = records[0].run.report
    folder = out or (first if len(records) == 1 else first / "compare")
    check_writable(folder)
    summaries = [analyse(record) for record in records]
    if len(summaries) == 1:
        tree, document = summaries[0].as_json(), run_document(summaries[0])
    else:
        comparison = compare(summaries)
        tree, document = comparison.as_json(), comparison_document(comparison)
    page = write(document, folder)
    if as_json:
        print_json({**tree, "page": str(page)}, indent=2)
        return
    console.print(view(document), soft_wrap=False)
    line("page", str(page))
