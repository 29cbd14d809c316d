"""A disk that fails at any write of a prepare, an evaluation, a sweep, a report; and what writes nothing."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from torture import FAULTS, FULL, FailingDisk, count, files_of, write_failure

TINY_SWEEP = "seeds: [0]\nmetrics: [validation/r2]\nrows: {base: }\n"


@pytest.fixture
def work(trained_run, data_root, tmp_path):
    """A folder with a run, its data, a text and a sweep file; made anew by each call."""

    def make():
        folder = tmp_path / "work"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "runs").mkdir(parents=True)
        shutil.copytree(trained_run.path, folder / "runs" / trained_run.name, symlinks=True)
        (folder / "runs" / "latest").symlink_to(trained_run.name)
        shutil.copytree(data_root / "lines", folder / "data" / "lines")
        (folder / "play.txt").write_text("".join(f"line {number}\n" for number in range(60)))
        return folder

    return make


def shown_files(folder):
    """Content of every file but logs and locks, by its path."""
    found = files_of(folder).items()
    return {path: content for path, content in found if not path.split("/")[-1].startswith(".")}


def in_turn(command, work, monkeypatch, chance, jepalm_command, short):
    """Run a command with each of its writes failing (of some, in the short form): code, folder and which.

    The command's exit code is 0 or 1 or 2, and what it says is a line, without a traceback.
    """
    folder = work()
    with monkeypatch.context() as patch:
        disk = FailingDisk(patch)
        code, _, err = jepalm_command(*command, cwd=folder)
    assert (code, err) == (0, "")
    new, old = shown_files(folder), shown_files(work())
    calls = range(1, disk.seen + 1)
    for nth in calls if FULL else chance.sample(calls, short):
        folder, fault, lasting = work(), chance.choice(FAULTS), chance.random() < 0.5
        with monkeypatch.context() as patch:
            FailingDisk(patch, nth, fault, lasting=lasting)
            code, out, err = jepalm_command(*command, cwd=folder)
        count("failed writes")
        said = [line for line in err.splitlines() if not line.startswith("warning: ")]
        if not said and "failed: " in out:  # of a sweep: the row that failed, in the table
            said = ["failed"]
        if code not in (0, 1, 2) or len(said) != (code != 0):
            write_failure(test="fault", command=command, nth=nth, fault=fault, lasting=lasting, said=err)
        assert code in (0, 1, 2), (nth, code)
        assert len(said) == (code != 0), (nth, err)
        yield folder, code, nth, old, new


def test_each_failing_write_of_a_prepare_leaves_no_data_or_all(work, monkeypatch, chance, jepalm_command):
    command = ("prepare", "text", "play.txt", "--name", "play")
    for folder, code, nth, old, new in in_turn(command, work, monkeypatch, chance, jepalm_command, 4):
        made = {name for name in shown_files(folder) if name.startswith("data/play/")}
        whole = {name for name in new if name.startswith("data/play/")}
        assert made in (set(), whole), nth
        assert bool(made) or code != 0, nth
        assert {name: shown_files(folder)[name] for name in old} == old
        if not FULL:
            continue
        code, _, err = jepalm_command(*command, *(["--force"] if made else []), cwd=folder)
        assert (code, err) == (0, ""), nth


def test_each_failing_write_of_an_evaluation_leaves_the_old_one_or_the_new(
    work, monkeypatch, chance, jepalm_command
):
    command = ("evaluate", "runs/latest", "--data-dir", "data", "--split", "train", "--prompts", "4")
    for folder, code, nth, old, new in in_turn(command, work, monkeypatch, chance, jepalm_command, 1):
        found = shown_files(folder)
        assert {path: found[path] for path in old} == old, nth
        made = found.keys() - old.keys()
        assert made <= new.keys() - old.keys(), nth
        assert {json.loads(found[name])["n_prompts"] for name in made} <= {4}, nth
        assert made or code, nth


def test_a_sweep_whose_disk_failed_ends_like_any_other_when_it_is_called_again(
    in_this_process, work, monkeypatch, chance, jepalm_command, tiny_settings
):
    settings = json.dumps(tiny_settings(training__steps=4))

    def with_file():
        folder = work()
        (folder / "lab.yaml").write_text(f"preset: nano\nset: {settings}\n{TINY_SWEEP}")
        return folder

    command = ("sweep", "lab.yaml")
    for folder, code, nth, _, new in in_turn(command, with_file, monkeypatch, chance, jepalm_command, 1):
        table = "runs/sweeps/lab/sweep.json"
        if code == 0:
            assert table in shown_files(folder), nth
        again, _, err = jepalm_command(*command, cwd=folder)
        assert (again, err) == (0, ""), (nth, code)
        metrics = [json.loads(files[table])["metrics"] for files in (shown_files(folder), new)]
        assert metrics[0] == metrics[1], nth


@pytest.mark.torture
def test_each_failing_write_of_a_report_leaves_old_files_or_new_ones(
    work, monkeypatch, chance, jepalm_command
):
    command = ("report", "runs/latest")
    for folder, code, nth, old, new in in_turn(command, work, monkeypatch, chance, jepalm_command, 1):
        found = shown_files(folder)
        assert {path: found[path] for path in old} == old, nth
        whole = [name for name in found if name not in old and not name.endswith((".png", ".html", ".md"))]
        assert {name: found[name] for name in whole} == {name: new[name] for name in whole}, nth
        plots = {name: content for name, content in found.items() if name.endswith(".png")}
        assert [name for name, content in plots.items() if not content.endswith(b"IEND\xaeB`\x82")] == []
        assert code == 1 or found.keys() == new.keys(), nth


def test_generate_writes_nothing(work, monkeypatch, jepalm_command):
    folder = work()
    with monkeypatch.context() as patch:
        disk = FailingDisk(patch)
        assert jepalm_command("generate", "1 ab", "--seed", 1, cwd=folder)[0] == 0
    assert disk.seen == 0


@pytest.mark.torture
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_words_that_a_full_disk_refuses_are_one_line(work):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "jepalm", "generate", "1 ab"],
            cwd=work(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        1,
        "error: No space left on device (free space or change the folder)\n",
    )
