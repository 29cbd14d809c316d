import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jepalm.training.checkpoint import MODEL, find_checkpoint

PHASES = (
    "[{name: a, share: 3, train: [encoder, decoder], terms: [reconstruction]},"
    " {name: b, share: 5, train: [predictor, length], terms: [embedding, length]},"
    " {name: c, share: 2}]"
)


@pytest.mark.distributed
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"training__phases": PHASES},
        {"objective__reconstruction__weight": 0, "objective__generation__weight": 1},
    ],
    ids=["plain", "phases", "no term teaches the encoder"],
)
def test_two_processes_learn_what_one_does_and_write_one_run(
    data_root: Path,
    tiny_settings: Callable[..., list[str]],
    train_tiny: Callable[..., Any],
    rows_of: Callable[..., list[dict[str, Any]]],
    tmp_path: Path,
    changed: dict[str, Any],
):
    trained_run = train_tiny(tmp_path / "alone", **changed)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [
        "-m",
        "jepalm",
        "train",
        "--preset",
        "nano",
        *tiny_settings(**changed),
        "--data-dir",
        str(data_root),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--run-dir", str(tmp_path / "together")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (path for path in (tmp_path / "together").iterdir() if not path.is_symlink())
    run = type(trained_run)(folder)
    manifest = json.loads(run.manifest.read_text())
    assert (manifest["status"], manifest["world_size"], manifest["step"]) == ("finished", 2, 8)
    one, other = (load_file(find_checkpoint(made).path / MODEL) for made in (trained_run, run))
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=1e-5, atol=1e-5), name
    for alone, together in zip(rows_of(trained_run), rows_of(run), strict=True):
        assert together["step"] == alone["step"]
        for key in (
            "train/loss",
            "train/grad_norm",
            *(key for key in alone if key.startswith("train/term/")),
        ):
            assert together[key] == pytest.approx(alone[key], rel=1e-3, abs=1e-5)
