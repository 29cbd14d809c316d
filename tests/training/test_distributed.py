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


@pytest.mark.distributed
def test_two_processes_learn_what_one_does_and_write_one_run(
    data_root: Path,
    tiny_settings: Callable[..., list[str]],
    trained_run: Any,
    rows_of: Callable[..., list[dict[str, Any]]],
    tmp_path: Path,
):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "jepalm", "train", "--preset", "nano", *tiny_settings(), "--data-dir", str(data_root)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--run-dir", str(tmp_path)], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (path for path in tmp_path.iterdir() if not path.is_symlink())
    run = type(trained_run)(folder)
    manifest = json.loads(run.manifest.read_text())
    assert (manifest["status"], manifest["world_size"], manifest["step"]) == ("finished", 2, 8)
    one, other = (load_file(find_checkpoint(made).path / MODEL) for made in (trained_run, run))
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=1e-5, atol=1e-5), name
    for alone, together in zip(rows_of(trained_run), rows_of(run), strict=True):
        assert together["step"] == alone["step"]
        for key in ("train/loss", "train/term/length", "train/grad_norm"):
            assert together[key] == pytest.approx(alone[key], rel=1e-3)
