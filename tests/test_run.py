import datetime
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jepalm import run as run_module
from jepalm.errors import JepalmError, UsageError
from jepalm.run import RunFolder, create_run, locked, open_run, point_latest


class Noon(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "Noon":
        return cls(2026, 1, 2, 12, 34, tzinfo=tz)


@pytest.fixture(autouse=True)
def _noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datetime, "datetime", Noon)


def made(root: Path, name: str = "nano") -> RunFolder:
    return create_run(root, name, "preset: nano\n", {"seed": 3})


def test_a_run_is_named_by_date_time_and_name(tmp_path: Path):
    assert made(tmp_path / "runs").path == tmp_path / "runs" / "2026-01-02_1234-nano"


def test_more_runs_in_the_same_minute_get_a_number(tmp_path: Path):
    names = [made(tmp_path).path.name for _ in range(3)]
    assert names == ["2026-01-02_1234-nano", "2026-01-02_1234-nano-2", "2026-01-02_1234-nano-3"]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a b/c", "a-b-c"),
        ("../up", "up"),
        ("é", "run"),
        ("", "run"),
        ("x" * 60, "x" * 40),
        ("v1.2_b", "v1.2_b"),
    ],
)
def test_a_name_becomes_one_safe_folder_name(tmp_path: Path, name: str, safe: str):
    assert made(tmp_path, name).path.name == f"2026-01-02_1234-{safe}"


def test_manifest_has_status_name_provenance_and_what_was_given(tmp_path: Path):
    manifest = made(tmp_path).read_manifest()
    assert manifest["status"] == "created"
    assert manifest["name"] == "nano"
    assert manifest["seed"] == 3
    assert manifest["created"] == "2026-01-02T12:34:00+00:00"
    assert {"jepalm", "python", "argv", "host", "git_commit"} <= manifest.keys()


def test_update_manifest_merges_and_keeps_the_rest(tmp_path: Path):
    run = made(tmp_path)
    run.update_manifest(status="finished")
    assert (run.read_manifest()["status"], run.read_manifest()["seed"]) == ("finished", 3)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_manifest_is_an_error_that_names_it(tmp_path: Path, text: str):
    run = made(tmp_path)
    run.manifest.write_text(text)
    with pytest.raises(JepalmError, match=r"manifest.json"):
        run.read_manifest()


def test_latest_is_a_relative_link_to_the_newest(tmp_path: Path):
    made(tmp_path)
    second = made(tmp_path)
    assert os.readlink(tmp_path / "latest") == second.path.name
    assert sorted(os.listdir(tmp_path)) == ["2026-01-02_1234-nano", "2026-01-02_1234-nano-2", "latest"]


def test_latest_is_never_absent_while_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first, second = made(tmp_path), RunFolder(tmp_path / "second")
    replaced = Path.replace

    def watched(path: Path, target: Path) -> Path:
        assert (tmp_path / "latest").resolve() == first.path
        return replaced(path, target)

    monkeypatch.setattr(Path, "replace", watched)
    point_latest(second)
    assert os.readlink(tmp_path / "latest") == "second"


def test_a_folder_in_the_place_of_latest_is_an_error(tmp_path: Path):
    (tmp_path / "latest" / "x").mkdir(parents=True)
    with pytest.raises(JepalmError, match=r"cannot point .*latest.* to .*nano"):
        made(tmp_path)


def test_a_file_in_the_place_of_the_folder_of_runs_is_an_error(tmp_path: Path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(JepalmError, match=r"cannot write a run under .*--run-dir"):
        made(tmp_path / "runs")


def test_a_run_reached_through_latest_has_its_own_name(tmp_path: Path):
    made(tmp_path)
    assert open_run(tmp_path / "latest").name == "2026-01-02_1234-nano"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "no run at .*missing .*runs lie under runs/"),
        ("latest", "no run at .*latest .*jepalm train makes one"),
        ("dangling", "dangling points to a run that is gone"),
        ("file", "file is a file, not a run folder"),
        ("empty", "empty is empty"),
        ("other", "other is not a run: it has no manifest.json"),
        ("half", "half is not a run: it has no config.yaml"),
    ],
)
def test_what_is_no_run_is_a_usage_error_that_says_what_it_is(tmp_path: Path, name: str, message: str):
    (tmp_path / "dangling").symlink_to("gone")
    (tmp_path / "file").write_text("")
    for folder in ("empty", "other", "half"):
        (tmp_path / folder).mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    (tmp_path / "half" / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match=message):
        open_run(tmp_path / name)


HOLD = """
import sys
from pathlib import Path
from jepalm.errors import JepalmError
from jepalm.run import RunFolder, locked
try:
    with locked(RunFolder(Path(sys.argv[1]))):
        print("held")
except JepalmError as error:
    sys.exit(str(error))
"""


def test_a_second_process_cannot_lock_a_run_until_the_first_lets_go(tmp_path: Path):
    run = made(tmp_path)
    command = [sys.executable, "-c", HOLD, str(run.path)]
    with locked(run):
        refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "is being trained by another process" in refused.stderr
    assert subprocess.run(command, capture_output=True, text=True).stdout == "held\n"


def test_without_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_module.provenance()["git_commit"] is None
