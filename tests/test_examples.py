"""Examples do what they say."""

import json
import os
import re
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from jepalm.cli import app

ROOT = Path(__file__).parents[1]
TINY = ("--steps=2", "--batch-size=4", "model.dim=16", "model.n_heads=2", "training.validation_batches=1")


def run_example(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run an example, trained for two steps."""
    found = subprocess.run(
        [sys.executable, ROOT / "examples" / name, *TINY, "hardware.threads=1"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    return found


def test_own_pairs_are_written_learned_and_asked_for(tmp_path):
    found = run_example("own_pairs.py", tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "dates.jsonl").read_text().splitlines()]
    assert len(rows) == 20_000
    assert all(row["target"][:4] == row["source"][-4:] for row in rows)
    meta = json.loads((tmp_path / "data" / "dates" / "meta.json").read_text())
    assert meta["splits"]["train"]["pairs"] == 18_000
    (run,) = (tmp_path / "runs").glob("2*-nano")
    assert json.loads((run / "manifest.json").read_text())["status"] == "finished"
    *_, generate, report, answer = found.stdout.splitlines()
    assert generate.startswith("next ")
    assert "jepalm report" in report
    assert answer.strip()


def test_own_transitions_are_learned_from_a_log_and_planned_with(tmp_path):
    found = run_example("transitions.py", tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "lift.jsonl").read_text().splitlines()]
    assert rows[0]["state"] == "floor 0, door shut"
    assert all(one["next_state"] == after["state"] for one, after in pairwise(rows))
    (evaluation,) = (tmp_path / "runs").glob("2*/report/evaluation-test.json")
    assert "simulator of the data" in json.loads(evaluation.read_text())["left_out"]
    assert found.stdout.splitlines()[-1].startswith("distance to the goal: ")


SHORT = (
    "STEPS = 200\nsettings = {",
    'STEPS = 2\nsettings = {"hardware.threads": 1, "hardware.precision": "fp32",',
)
"""How the notebook's training is cut down."""


def test_the_notebook_runs_from_rows_to_scores(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "examples" / "python_api.ipynb").read_text(encoding="utf-8"))
    names, threads = {}, torch.get_num_threads()
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]).replace(*SHORT), names)
    torch.set_num_threads(threads)
    assert len(names["answers"]) == 2
    assert [tuple(one.shape) for one in names["predicted"]] == [(10, 64)] * 2
    assert re.match(r"nll: right [\d.]+, wrong [\d.]+ nats a token\n$", capsys.readouterr().out)


def test_a_runs_metrics_are_read_with_the_standard_library_alone(trained_run, rows_of, capsys):
    runpy.run_path(str(ROOT / "examples" / "read_metrics.py"))["main"](trained_run.path)
    lines = capsys.readouterr().out.splitlines()
    for row in rows_of(trained_run, "validation"):
        assert f"{row['step']} validation R2 {row['validation/r2']:.3f}" in lines
    trained = [line for line in lines if " train " in line]
    assert [int(line.split()[0]) for line in trained] == [row["step"] for row in rows_of(trained_run)]
    for line in trained:
        shares = [float(number) for number in line.split()[3::3]]
        assert sum(shares) == pytest.approx(100, abs=0.5), line


def test_the_jobs_of_several_machines_are_well_formed_and_resume():
    script = ROOT / "examples" / "slurm.sh"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    service, job = yaml.safe_load_all((ROOT / "examples" / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    (command,) = pod["containers"][0]["args"]
    for text in (script.read_text(), command):
        assert "-m jepalm train" in text
        assert "--resume" in text


def test_a_billion_parameters_are_planned_without_data_or_memory(tmp_path):
    config = ROOT / "examples" / "configs" / "openwebtext-1b.yaml"
    given = ["train", "--config", str(config), "--dry-run", "--devices", "8", "--data-dir", str(tmp_path)]
    found = CliRunner().invoke(app, given)
    assert found.exit_code == 0, found.output
    assert "1.0" in next(line for line in found.stdout.splitlines() if line.startswith("model"))
    assert "fsdp" in found.stdout
