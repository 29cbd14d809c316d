import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jepalm.data import writing
from jepalm.data.job import Job, Outcome
from jepalm.data.prepared import open_prepared
from jepalm.data.text.preparing import prepare_text
from jepalm.data.writing import at_work, new_folder, size
from jepalm.errors import JepalmError, UsageError

Make = Callable[..., Outcome]
DEAD = 2**22 + 1  # above the largest process id of Linux


def break_after(monkeypatch: pytest.MonkeyPatch, files: int, error: BaseException) -> None:
    written = []
    original = writing.FolderWriter.write

    def write(self: writing.FolderWriter, name: str, content: bytes) -> None:
        if len(written) == files:
            raise error
        written.append(name)
        original(self, name, content)

    monkeypatch.setattr(writing.FolderWriter, "write", write)


@pytest.mark.parametrize("files", [0, 1, 3])
def test_broken_off_work_leaves_nothing(
    make: Make, numbered: str, tmp_path: Path, files: int, monkeypatch: pytest.MonkeyPatch
):
    break_after(monkeypatch, files, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        make(numbered)
    assert list((tmp_path / "data").iterdir()) == []


def test_broken_off_rebuild_leaves_the_old_data(
    make: Make, numbered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = make(numbered).data.meta
    break_after(monkeypatch, 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        make(numbered * 2, force=True)
    assert open_prepared("mine", tmp_path / "data").meta == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mine"]


def test_full_disk_is_one_clear_line(make: Make, numbered: str, monkeypatch: pytest.MonkeyPatch):
    break_after(monkeypatch, 1, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(JepalmError, match="no room left under") as caught:
        make(numbered)
    assert caught.value.exit_code == 1


def test_room_is_checked_before_anything_is_written(
    make: Make, numbered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000)
    )
    with pytest.raises(JepalmError, match=r"too little room .* 1 kB free"):
        make(numbered)
    assert list((tmp_path / "data").iterdir()) == []


def test_folder_that_cannot_be_written_is_bad_input(tmp_path: Path):
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match=r"not a folder|cannot write"), new_folder(root, "mine", 0):
            pass


def test_only_dead_processes_are_cleaned_up_after(make: Make, numbered: str, tmp_path: Path):
    root = tmp_path / "data"
    alive = f".mine-{os.getppid()}.tmp"
    for name in (f".other-{DEAD}.tmp", f".mine-{DEAD}.old.tmp", alive, ".unrelated.tmp"):
        (root / name).mkdir(parents=True)
    make(numbered)
    assert {path.name for path in root.iterdir()} == {"mine", alive, ".unrelated.tmp"}


def test_data_that_a_killed_rebuild_had_moved_away_comes_back(make: Make, numbered: str, tmp_path: Path):
    before = make(numbered).data
    before.path.rename(tmp_path / "data" / f".mine-{DEAD}.old.tmp")
    make(numbered, "another")
    assert open_prepared("mine", tmp_path / "data").meta == before.meta


def test_killed_process_leaves_no_data_and_the_next_cleans_up(make: Make, numbered: str, tmp_path: Path):
    program = f"""
import os, signal
from pathlib import Path
from jepalm.data.writing import at_work, new_folder
data = Path({str(tmp_path / "data")!r})
with at_work(data, "mine"), new_folder(data, "mine", 0) as folder:
    folder.write("train-00000.safetensors", b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    lock, left = sorted(path.name for path in (tmp_path / "data").iterdir())[::-1]
    assert left.startswith(".mine-")
    assert lock == ".mine.lock"
    make(numbered)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mine"]


def test_the_same_again_is_a_no_op(make: Make, numbered: str):
    first, second = make(numbered), make(numbered)
    assert (first.made, second.made) == (True, False)
    assert make(numbered, force=True).made


def test_something_else_under_the_same_name_is_refused(make: Make, numbered: str):
    make(numbered)
    with pytest.raises(UsageError, match=r"from another text .*--force"):
        make(numbered + "more\n")
    with pytest.raises(UsageError, match=r"with other settings .*--force"):
        make(numbered, tokenizer="byte")
    assert make(numbered, tokenizer="byte", force=True).made


def test_damaged_data_is_made_again(make: Make, numbered: str):
    path = make(numbered).data.path
    (path / "test-00000.safetensors").unlink()
    assert make(numbered).made


def test_a_folder_of_somebody_elses_is_never_replaced(make: Make, numbered: str, tmp_path: Path):
    (tmp_path / "data" / "mine").mkdir(parents=True)
    (tmp_path / "data" / "mine" / "diary.txt").touch()
    with pytest.raises(UsageError, match="is in the way"):
        make(numbered, force=True)
    assert (tmp_path / "data" / "mine" / "diary.txt").exists()


def test_sizes_for_people():
    assert [size(n) for n in (0, 999, 1000, 4_100_000, 2.5e9, 1e15)] == [
        "0 B", "999 B", "1 kB", "4.1 MB", "2.5 GB", "1e+03 TB",
    ]  # fmt: skip


def test_progress_ends_at_the_whole_size_at_every_stage(numbered: str, tmp_path: Path):
    from jepalm.data.prepared import Origin, Request
    from jepalm.data.text.reading import RawText

    seen: dict[str, tuple[int, int]] = {}
    job = Job(
        tmp_path, "mine", "text", Origin(source="given", where=[]), "none",
        Request(pairing="lines", tokenizer="bpe:270"),
        watch=lambda stage, done, total: seen.update({stage: (done, total)}),
    )  # fmt: skip
    prepare_text(job, RawText(content=numbered.encode()))
    n = len(numbered)
    assert seen == {"reading": (n, n), "learning": (n, n), "writing": (n, n)}


@pytest.mark.slow
@pytest.mark.parametrize("pairing", ["lines", "windows"])
def test_memory_is_flat_in_the_inputs_size(tmp_path: Path, pairing: str):
    peaks = []
    for megabytes in (20, 200):
        path = tmp_path / f"{megabytes}.txt"
        piece = (
            b"word " * 200_000
            if pairing == "windows"
            else b"a line of forty characters, all the same\n" * 25_000
        )
        with open(path, "wb") as file:
            for _ in range(megabytes * 1_000_000 // len(piece)):
                file.write(piece)
        program = (
            "import resource; from jepalm.cli.prepare import prepare_app;"
            f"prepare_app(['text', {str(path)!r}, '--pairing', {pairing!r}, '--data-dir', {str(tmp_path)!r}],"
            "standalone_mode=False);"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]))
    kilobyte = 1 if sys.platform != "darwin" else 1024
    assert max(peaks) < 600_000 * kilobyte
    assert peaks[1] < peaks[0] + 300_000 * kilobyte


def test_a_name_is_held_from_the_first_reading_on(tmp_path: Path):
    refused = pytest.raises(JepalmError, match="another prepare is at work on")
    with at_work(tmp_path, "race"), refused, at_work(tmp_path, "race"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_name_taken_meanwhile_is_refused_at_the_rename(tmp_path: Path):
    root = tmp_path / "data"

    def both() -> None:
        with new_folder(root, "mine", 0) as folder:
            folder.write("train-00000.safetensors", b"ours")
            (root / "mine").mkdir()
            (root / "mine" / "meta.json").write_text("theirs")

    with pytest.raises(JepalmError, match="another prepare is at work"):
        both()
    assert (root / "mine" / "meta.json").read_text() == "theirs"
    assert [path.name for path in root.iterdir()] == ["mine"]
