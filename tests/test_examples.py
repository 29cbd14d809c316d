"""Examples do what they say."""

import json
import os
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TINY = ("--steps=2", "--batch-size=4", "model.dim=16", "model.n_heads=2", "training.validation_batches=1")


def test_own_transitions_are_learned_from_a_log_and_planned_with(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    found = subprocess.run(
        [sys.executable, ROOT / "examples" / "transitions.py", *TINY, "hardware.threads=1"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    rows = [json.loads(line) for line in (tmp_path / "lift.jsonl").read_text().splitlines()]
    assert rows[0]["state"] == "floor 0, door shut"
    assert all(one["next_state"] == after["state"] for one, after in pairwise(rows))
    (evaluation,) = (tmp_path / "runs").glob("2*/report/evaluation-test.json")
    assert "simulator of the data" in json.loads(evaluation.read_text())["left_out"]
    assert found.stdout.splitlines()[-1].startswith("distance to the goal: ")


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
