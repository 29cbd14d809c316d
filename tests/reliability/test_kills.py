"""SIGKILL at any moment: a run that goes on ends in the same bytes as one that was never killed."""

import json
import os
import shutil
import signal
import time

import pytest
from torture import FULL, RUNS, count, dying, ended, forked, write_failure

from jepalm.run import open_run

CASES = {
    "plain": {},
    "dropout and accumulation": {"model__dropout": 0.2, "training__micro_batch_size": 2},
    "moving average": {"objective__targets__encoder": "ema"},
    "phases": {"training__phases": "[{name: first, steps: 3, terms: [reconstruction]}, {name: second}]"},
}
CLOCK = {"time", "speed/steps_per_s", "speed/tokens_per_s"}
CHANGING = {
    *("seconds", "resumed", "started", "ended", "created", "argv", "host", "git_commit", "degraded"),
    "flops_per_step",
}


def rows(path, drop=()):
    if not path.exists():
        return []
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{key: row[key] for key in row if key not in drop} for row in found]


def state_of(path):
    """Everything that must be equal: weights and moments by fingerprint, rows, samples, best, status."""
    run = open_run(path)
    files = {
        folder.name: {
            name: one["sha256"]
            for name, one in json.loads((folder / "files.json").read_text()).items()
            if name != "state.json"
        }
        for _, folder in run.step_folders()
    }
    manifest = {key: value for key, value in run.read_manifest().items() if key not in CHANGING}
    events = [row for row in rows(run.metrics, CLOCK) if row.get("event") != "resumed"]
    best = os.readlink(run.checkpoints / "best")
    hidden = [item.name for item in run.path.rglob(".*") if item.name != ".lock"]
    names = sorted(item.name for item in run.checkpoints.iterdir())
    return files, manifest, events, rows(run.samples), best, hidden, names


@pytest.fixture
def straight(train_tiny, tmp_path):
    """The state of a run of a case that nobody killed."""

    def train(case):
        assert ended(forked(lambda: train_tiny(tmp_path / "straight", **CASES[case]))) == 0
        return state_of((tmp_path / "straight" / "latest").resolve())

    return train


def train_until_finished(train_tiny, resume_tiny, runs, case, next_kill):
    """Train, kill, go on, kill, until nothing is left; return the run's folder and where it was killed."""
    kills = []
    for attempt in range(60):
        latest = runs / "latest"
        path = latest.resolve() if latest.exists() else None
        if path is not None and not open_run(path).step_folders():
            shutil.rmtree(path)  # nothing was saved yet: the command is given again
            path = None
        resumes = path is not None

        def work(path=path, resumes=resumes):
            if resumes:
                resume_tiny(path)
            else:
                train_tiny(runs, **CASES[case])

        kill = next_kill(attempt)
        if isinstance(kill, int):
            child = forked(dying(work, kill))
        else:
            child = forked(work)
            time.sleep(kill)
            os.kill(child, signal.SIGKILL)
        code = ended(child)
        kills.append(kill)
        if code == 0:
            return path or latest.resolve(), kills
        assert code == -signal.SIGKILL, (code, kills)
        count("kills")
    raise AssertionError(f"not finished after {kills}")


@pytest.mark.parametrize("case", CASES)
def test_killed_at_any_write_and_resumed_a_run_ends_in_the_same_bytes(
    train_tiny, resume_tiny, straight, tmp_path, chance, case
):
    wanted = straight(case)
    for trial in range(RUNS if FULL else 1):
        runs = tmp_path / f"killed-{trial}"
        kills = [chance.randrange(1, 160), *(chance.randrange(1, 80) for _ in range(5))]
        path, done = train_until_finished(
            train_tiny, resume_tiny, runs, case, lambda attempt, kills=kills: [*kills, 10**9][min(attempt, 6)]
        )
        found = state_of(path)
        if found != wanted:
            write_failure(test="write", case=case, kills=done, run=str(path))
        for part, other in zip(found, wanted, strict=True):
            assert part == other, (case, done)
        count("killed runs resumed exactly")
        assert not list(runs.glob(".*.tmp"))


@pytest.mark.torture
@pytest.mark.parametrize("case", CASES)
def test_killed_at_any_time_and_resumed_a_run_ends_in_the_same_bytes(
    train_tiny, resume_tiny, straight, tmp_path, chance, case
):
    wanted = straight(case)
    for trial in range(RUNS):
        runs = tmp_path / f"killed-{trial}"
        times = [chance.uniform(0.0, 1.5) for _ in range(6)]
        path, done = train_until_finished(
            train_tiny, resume_tiny, runs, case, lambda attempt, times=times: [*times, 10**9][min(attempt, 6)]
        )
        found = state_of(path)
        if found != wanted:
            write_failure(test="time", case=case, kills=done, run=str(path))
        assert found == wanted, (case, done)
        count("killed runs resumed exactly")
