"""Signals to a real process: exit code, message, and a run that goes on exactly."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jepalm.run import open_run
from jepalm.training.checkpoint import find_checkpoint

LONG = {"training__steps": 250, "training__log_every": 50, "training__validate_every": 50}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_with_its_exit_code_and_how_to_go_on(
    data_root: Path,
    tiny_settings: Callable[..., list[str]],
    train_tiny: Callable[..., Any],
    resume_tiny: Callable[..., None],
    rows_of: Callable[..., list[dict[str, Any]]],
    changed_weights: Callable[..., list[str]],
    tmp_path: Path,
    number: signal.Signals,
):
    command = [sys.executable, "-m", "jepalm", "train", "--preset", "nano", *tiny_settings(**LONG)]
    command += ["--data-dir", str(data_root), "--run-dir", str(tmp_path / "runs")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 50 · validation"):
            break
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert errors.startswith("saved step ")
    assert "go on with: jepalm train --resume " in errors
    run = open_run(tmp_path / "runs" / "latest")
    assert 50 <= find_checkpoint(run).step < 250
    if number == signal.SIGINT:
        return
    resume_tiny(run.path)
    straight = train_tiny(tmp_path / "straight", **LONG)
    assert changed_weights(straight, run) == []
    assert rows_of(run, timed=False) == rows_of(straight, timed=False)
