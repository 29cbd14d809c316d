"""Two trainings at a time: together they must not take longer than one after the other.

`make bench` prints the ratio for the threads that are chosen by themselves, and for others.
"""

import os
import subprocess
import sys
import time

import pytest
import torch
from drawn_lines import line_batches

from jepalm.config import resolve

pytestmark = pytest.mark.benchmark

STEPS = 200
FORMS = {
    # name: settings, environment
    "threads chosen by timing": ([], {}),
    "one thread each": (["hardware.threads=1"], {}),
    "two threads each": (["hardware.threads=2"], {}),
    "two threads each, waiting asleep": (["hardware.threads=2"], {"OMP_WAIT_POLICY": "passive"}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the lines are prepared."""
    folder = tmp_path_factory.mktemp("bench")
    line_batches(resolve("nano"), folder, torch.device("cpu"), static=False)
    return folder


def start(folder, settings, environment):
    command = [sys.executable, "-m", "jepalm", "train", "--preset", "nano", "--data", "lines"]
    command += ["--steps", str(STEPS), "--data-dir", folder, "--run-dir", folder / "runs", *settings]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "MKL_"))}
    return subprocess.Popen([*map(str, command)], env=kept | environment, stdout=subprocess.DEVNULL)


def seconds(folder, form, at_once):
    """Of two trainings, so many at a time."""
    begin = time.perf_counter()
    for _ in range(0, 2, at_once):
        running = [start(folder, *form) for _ in range(at_once)]
        assert [process.wait() for process in running] == [0] * at_once
    return time.perf_counter() - begin


@pytest.mark.parametrize("name", FORMS)
def test_two_trainings_side_by_side_beside_one_after_the_other(folder, name):
    apart, together = (seconds(folder, FORMS[name], at_once) for at_once in (1, 2))
    print(f"\n{name}: {apart:.1f} s one after the other, {together:.1f} s at once, {together / apart:.2f}")
    if name == "threads chosen by timing":
        assert together < apart
