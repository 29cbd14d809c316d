"""Seeds and counts of the torture; `make torture` sets JEPALM_TORTURE and runs all of it."""

import json
import os
import time
from pathlib import Path

FULL = bool(os.environ.get("JEPALM_TORTURE"))
RUNS = int(os.environ.get("JEPALM_TORTURE_RUNS", "40"))
"""Trainings of each case in the full form, each killed up to six times."""
SEED = int(os.environ.get("JEPALM_TORTURE_SEED") or (time.time_ns() % 2**31 if FULL else 0))
FAILURES = Path(os.environ.get("JEPALM_TORTURE_FAILURES", "build/torture-failures.jsonl"))
COUNTS = {}


def count(what, number=1):
    COUNTS[what] = COUNTS.get(what, 0) + number


def write_failure(**found):
    """Write what failed to a file, with what is needed to repeat it."""
    FAILURES.parent.mkdir(parents=True, exist_ok=True)
    with open(FAILURES, "a", encoding="utf-8") as file:
        file.write(json.dumps({"seed": SEED, **found}) + "\n")
