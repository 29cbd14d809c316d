"""Where data and runs lie: the flag, else the environment, else a folder in the working directory."""

from __future__ import annotations

import os
from pathlib import Path


def data_root(given: Path | None = None) -> Path:
    """The folder of prepared data: the flag, else `JEPALM_DATA`, else `data`."""
    return given or Path(os.environ.get("JEPALM_DATA") or "data")


def runs_root(given: Path | None = None) -> Path:
    """The folder of runs: the flag, else `JEPALM_RUNS`, else `runs`."""
    return given or Path(os.environ.get("JEPALM_RUNS") or "runs")
