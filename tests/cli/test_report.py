"""`jepalm report` as a command."""

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from jepalm.cli.report import report
from jepalm.errors import JepalmError, UsageError

app = typer.Typer()
app.command()(report)


def write_run(folder, status="finished", loss=2.0):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("preset: nano\n")
    (folder / "manifest.json").write_text(json.dumps({"status": status, "preset": "nano", "steps": 10}))
    row = {"kind": "train", "step": 10, "time": 1.0, "train/loss": loss, "train/share/length": 1.0}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    return folder


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_report_prints_the_run_and_the_page(tmp_path):
    run = write_run(tmp_path / "one")
    result = call(run)
    assert result.exit_code == 0
    assert result.stdout.startswith("nano · finished · 10 steps in 1.00 s")
    assert (run / "report" / "report.html").is_file()
    assert f"page      {run / 'report' / 'report.html'}" in result.stdout.replace("\n/", "/")


def test_report_without_a_run_takes_the_latest(tmp_path, monkeypatch):
    monkeypatch.setenv("JEPALM_RUNS", str(tmp_path))
    run = write_run(tmp_path / "one")
    (tmp_path / "latest").symlink_to("one")
    result = call()
    assert result.exit_code == 0
    assert (run / "report" / "report.html").is_file()


def test_json_is_the_analysis_and_nothing_else(tmp_path):
    run = write_run(tmp_path / "one", loss=float("nan"))
    tree = json.loads(call(run, "--json").stdout)
    assert (tree["run"], tree["status"], tree["steps"]["reached"]) == ("one", "finished", 10)
    assert tree["composition"]["length"] == {"share": 1.0, "article": 0.425}
    assert [finding["word"] for finding in tree["findings"]] == ["cannot tell"] * 3
    assert tree["verdicts"][0]["code"] == "diverged"
    assert tree["page"] == str(run / "report" / "report.html")


def test_out_moves_the_report(tmp_path):
    run = write_run(tmp_path / "one")
    assert call(run, "--out", tmp_path / "elsewhere" / "deep").exit_code == 0
    assert (tmp_path / "elsewhere" / "deep" / "report.html").is_file()
    assert not (run / "report").exists()


def test_two_runs_are_compared_under_the_first(tmp_path):
    runs = [write_run(tmp_path / name, loss=loss) for name, loss in (("one", 1.0), ("two", 2.0))]
    result = call(*runs)
    assert result.exit_code == 0
    assert (runs[0] / "report" / "compare" / "report.html").is_file()
    tree = json.loads(call(*runs, "--json").stdout)
    assert tree["table"]["loss (train, last row)"] == [1.0, 2.0]


@pytest.mark.parametrize("kind", ["missing", "empty", "file", "other"])
def test_what_is_no_run_is_told_in_one_line(tmp_path, kind):
    path = tmp_path / "thing"
    if kind == "file":
        path.write_text("x")
    elif kind != "missing":
        path.mkdir()
    if kind == "other":
        (path / "notes.txt").write_text("x")
    error = call(path).exception
    assert isinstance(error, UsageError)
    assert error.exit_code == 2
    assert "\n" not in str(error)


def test_a_report_folder_that_cannot_be_written_is_told_in_one_line(tmp_path):
    run = write_run(tmp_path / "one")
    (run / "report").write_text("in the way")
    error = call(run).exception
    assert isinstance(error, JepalmError)
    assert error.exit_code == 1
    assert "--out" in error.hint


def test_importing_the_command_loads_nothing_heavy():
    heavy = {"torch", "matplotlib", "numpy", "jinja2"}
    code = f"import sys, jepalm.cli.report; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reporting_needs_neither_torch_nor_scipy():
    code = (
        "import sys, jepalm.report.comparison, jepalm.report.render.write, jepalm.report.render.terminal;"
        "print(sorted({'torch', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
