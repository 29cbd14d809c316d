"""Examples do what they say."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

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
