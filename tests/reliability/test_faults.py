"""A disk that fails at any call: the old state or the new, one line, and no traceback."""

import errno
import json
import os

import pytest
from torture import FAULTS, FULL, FailingDisk, count, write_failure

from jepalm.errors import JepalmError
from jepalm.run import open_run
from jepalm.training.checkpoint import find_checkpoint, problem
from jepalm.training.metrics import MetricLog


@pytest.fixture
def writes(train_tiny, tmp_path, monkeypatch):
    """Number of writes of a run that meets no fault."""
    with monkeypatch.context() as patch:
        disk = FailingDisk(patch)
        train_tiny(tmp_path / "straight")
    return disk.seen


def test_each_failing_write_leaves_the_old_state_or_the_new(
    train_tiny, writes, tmp_path, monkeypatch, chance, capfd
):
    """Every write of a training in turn (some of them in the short form)."""
    calls = range(1, writes + 1)
    for nth in calls if FULL else chance.sample(calls, 8):
        runs, fault = tmp_path / f"runs-{nth}", chance.choice(FAULTS)
        failed = None
        with monkeypatch.context() as patch:
            FailingDisk(patch, nth, fault)
            try:
                train_tiny(runs)
            except (JepalmError, OSError) as error:
                failed = error
        count("failed writes")
        _, err = capfd.readouterr()
        if "Traceback" in err:
            write_failure(test="fault", nth=nth, fault=fault)
        assert "Traceback" not in err
        made = [path for path in runs.iterdir() if not path.is_symlink()] if runs.exists() else []
        made = [path for path in made if not path.name.startswith(".")]
        assert len(made) <= 1
        if not made:
            assert failed is not None
            assert not (runs / "latest").exists()
            continue
        run = open_run(made[0])
        status = run.read_manifest()["status"]
        assert status == "finished" if failed is None else status in ("failed", "created", "running"), nth
        assert [problem(folder) for _, folder in run.step_folders()] == [""] * len(run.step_folders())
        for path in (run.metrics, run.samples):
            for line in path.read_text().splitlines() if path.exists() else ():
                json.loads(line)


def test_a_fault_in_the_midst_is_said_in_the_manifest_and_training_goes_on(train_tiny, tmp_path, monkeypatch):
    import jepalm.training.checkpoint as checkpoints

    save, saves = checkpoints.save_file, []

    def full_once(*given, **options):
        saves.append(given)
        if len(saves) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return save(*given, **options)

    monkeypatch.setattr(checkpoints, "save_file", full_once)
    run = train_tiny(tmp_path)
    manifest = run.read_manifest()
    assert manifest["status"] == "finished"
    assert [("step-00000004" in fault, "goes on without" in fault) for fault in manifest["degraded"]] == [
        (True, True)
    ]
    assert find_checkpoint(run).step == 8


def test_rows_that_the_disk_refused_are_written_with_the_next(trained_run, tmp_path, monkeypatch):
    run, told = type(trained_run)(tmp_path), []
    log = MetricLog(run, trouble=told.append)
    log.write("train", 1, {})
    with monkeypatch.context() as patch:
        FailingDisk(patch, 1, errno.ENOSPC, lasting=True)
        log.write("train", 2, {})
    log.write("train", 3, {})
    log.close()
    assert [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()] == [1, 2, 3]
    assert told == [f"cannot write {run.metrics}: No space left on device"]


def test_a_full_disk_under_tensorboard_ends_the_copy_and_not_the_training(
    train_tiny, tmp_path, monkeypatch, capfd
):
    """The library writes in a thread of its own, which dies with a traceback otherwise."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    def full(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RecordWriter, "write", full)
    run = train_tiny(tmp_path)
    manifest = run.read_manifest()
    assert manifest["status"] == "finished"
    assert "TensorBoard is left out" in manifest["degraded"][0]
    assert "Traceback" not in capfd.readouterr().err


def test_a_failure_while_a_run_is_made_leaves_nothing_and_latest_where_it_was(
    train_tiny, tmp_path, monkeypatch
):
    first = train_tiny(tmp_path)
    with monkeypatch.context() as patch:
        FailingDisk(patch, 4, errno.ENOSPC, lasting=True)
        with pytest.raises(JepalmError, match=r"cannot write a run under .*No space left"):
            train_tiny(tmp_path)
    assert (tmp_path / "latest").resolve() == first.path
    others = [path.name for path in tmp_path.iterdir() if path not in (first.path, tmp_path / "latest")]
    assert [name for name in others if not name.startswith(".")] == []
