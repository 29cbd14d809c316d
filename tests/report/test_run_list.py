"""The list of runs, and those that may go."""

import fcntl
import json

import pytest

from jepalm.errors import JepalmError
from jepalm.report.runs import list_runs, remove_run


@pytest.fixture
def runs(tmp_path):
    """A folder of runs; `make(name, status, checkpoints)` adds one."""

    def make(name, status="finished", checkpoints=1, **manifest):
        path = tmp_path / name
        path.mkdir()
        tree = {
            "status": status,
            "preset": "nano",
            "step": 4,
            "steps": 8,
            "created": "2026-11-01T00:00:00+00:00",
        }
        (path / "manifest.json").write_text(json.dumps({**tree, **manifest}))
        (path / "config.yaml").write_text("preset: nano\n")
        for number in range(checkpoints):
            (path / "checkpoints" / f"step-0000000{number}").mkdir(parents=True)
        return path

    return make


def test_a_run_is_told_by_its_manifest(runs, tmp_path):
    path = runs("2026-11-01_0000-nano", best={"step": 4, "metric": "validation/loss", "value": 2.5})
    (path / "log.txt").write_text("x" * 100)
    (tmp_path / "latest").symlink_to(path.name)
    (entry,) = list_runs(tmp_path)
    assert (entry.preset, entry.status, entry.step, entry.steps, entry.best) == (
        "nano",
        "finished",
        4,
        8,
        2.5,
    )
    assert entry.latest
    assert entry.n_bytes == sum(file.stat().st_size for file in path.iterdir() if file.is_file())


def test_a_broken_run_is_named_and_a_folder_of_something_else_is_none(runs, tmp_path):
    (runs("2026-11-02_0000-nano") / "manifest.json").write_text("{")
    (tmp_path / "2026-11-01_0000-empty").mkdir()
    (tmp_path / "sweep-results").mkdir()
    (tmp_path / ".2026-11-03_0000-nano-1.tmp").mkdir()
    found = {entry.name: (entry.status, bool(entry.problem)) for entry in list_runs(tmp_path)}
    assert found == {"2026-11-02_0000-nano": ("broken", True), "2026-11-01_0000-empty": ("broken", True)}


def test_a_run_that_no_process_holds_was_killed(runs, tmp_path):
    path = runs("2026-11-01_0000-nano", "running")
    assert list_runs(tmp_path)[0].status == "killed"
    with open(path / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert list_runs(tmp_path)[0].status == "running"


@pytest.mark.parametrize(
    ("status", "checkpoints", "why"),
    [
        ("failed", 1, "failed"),
        ("failed", 0, "failed, without a checkpoint"),
        ("running", 0, "killed, without a checkpoint"),
        ("interrupted", 1, ""),
        ("finished", 0, ""),
    ],
)
def test_what_failed_or_left_no_checkpoint_may_go(runs, tmp_path, status, checkpoints, why):
    runs("2026-11-01_0000-nano", status, checkpoints)
    assert list_runs(tmp_path)[0].needless == why


def test_the_latest_a_trained_one_and_a_teacher_stay(runs, tmp_path):
    latest, held, taught = (runs(f"2026-11-0{k}_0000-nano", "failed") for k in (1, 2, 3))
    pupil = runs("2026-11-04_0000-pupil")
    pupil.joinpath("config.yaml").write_text(
        f"preset: nano\nobjective:\n  coupling:\n    teacher: {taught}\n"
    )
    (tmp_path / "latest").symlink_to(latest.name)
    with open(held / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert [entry.needless for entry in list_runs(tmp_path)] == ["", "", "", ""]
        with pytest.raises(JepalmError, match="is being trained by another process"):
            remove_run(list_runs(tmp_path)[2])
    assert held.exists()


def test_a_removed_run_leaves_nothing(runs, tmp_path):
    runs("2026-11-01_0000-nano", "failed")
    remove_run(list_runs(tmp_path)[0])
    assert list(tmp_path.iterdir()) == []
