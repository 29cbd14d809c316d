"""Examples do what they say."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
TINY = ("--steps=2", "--batch-size=4", "model.dim=16", "model.n_heads=2", "training.validation_batches=1")


def run_example(name: str, folder: Path) -> str:
    """What an example prints, trained for two steps."""
    found = subprocess.run(
        [sys.executable, ROOT / "examples" / name, *TINY, "hardware.threads=1"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_own_pairs_are_written_learned_and_asked_for(tmp_path):
    shown = run_example("own_pairs.py", tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "dates.jsonl").read_text().splitlines()]
    assert len(rows) == 20_000
    assert all(row["target"][:4] == row["source"][-4:] for row in rows)
    meta = json.loads((tmp_path / "data" / "dates" / "meta.json").read_text())
    assert meta["splits"]["train"]["pairs"] == 18_000
    (run,) = (tmp_path / "runs").glob("2*-nano")
    assert json.loads((run / "manifest.json").read_text())["status"] == "finished"
    *_, hint, answer = shown.splitlines()
    assert hint.startswith("next ")
    assert answer.strip()


def test_own_transitions_are_learned_from_a_log_and_planned_with(tmp_path):
    shown = run_example("transitions.py", tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "lift.jsonl").read_text().splitlines()]
    assert rows[0]["state"] == "floor 0, door shut"
    assert all(one["next_state"] == after["state"] for one, after in pairwise(rows))
    (evaluation,) = (tmp_path / "runs").glob("2*/report/evaluation-test.json")
    assert "simulator of the data" in json.loads(evaluation.read_text())["left_out"]
    assert shown.splitlines()[-1].startswith("distance to the goal: ")
