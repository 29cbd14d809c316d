"""Fixtures of the report tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import evaluation, laboratory_rows, sample, summary_of, validation_row, write_run

from jepalm.report.render.run import run_document
from jepalm.report.render.write import write

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run folder and return its path."""

    def make(
        rows: list[dict[str, Any]] | None = None,
        samples: list[dict[str, Any]] | None = None,
        name: str = "2026-01-02_0304-shakespeare",
        config: dict[str, Any] | str | None = None,
        tail: str = "",
        evaluations: dict[str, Any] | None = None,
        **manifest: Any,
    ) -> Path:
        return write_run(tmp_path / "runs" / name, rows, samples, config, tail, evaluations, **manifest)

    return make


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Report folder of a run whose samples and arguments try to be HTML."""
    hostile = sample(
        500, source="<script>alert(1)</script>", generated="a|b `x`\n</code><img src=x onerror=alert(1)>  "
    )
    rows = [
        *laboratory_rows(1000),
        validation_row(1000, **{"validation/train_r2": 0.5, "validation/note": "text"}),
    ]
    evaluated = evaluation(baseline="<i>other</i>", run="<script>")
    run = write_run(
        tmp_path_factory.mktemp("runs") / "one",
        rows,
        [sample(250), sample(500), hostile],
        evaluations={"validation": evaluated, "test": evaluation("test")},
        argv=["<b>", "x"],
    )
    return write(run_document(summary_of(run)), run / "report").parent
