import json
import os
from pathlib import Path

import pytest

from jepalm.atomic import whole_folder, write_atomically
from jepalm.errors import JepalmError


def test_an_atomic_write_leaves_the_new_text_and_nothing_else(tmp_path: Path):
    path = tmp_path / "a.json"
    write_atomically(path, "old")
    write_atomically(path, json.dumps({"é": 1}, ensure_ascii=False))
    assert path.read_text(encoding="utf-8") == '{"é": 1}'
    assert os.listdir(tmp_path) == ["a.json"]


def test_an_atomic_write_that_fails_leaves_the_old_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail(path: Path, target: Path) -> Path:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_atomically(path, "torn")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_made_whole_cleans_up_after_killed_ones_of_its_name_alone(tmp_path: Path):
    for name in ("mine", "other"):
        (tmp_path / f".{name}-999999999.tmp").mkdir()
    with whole_folder(tmp_path / "mine") as folder:
        (folder / "a").write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other-999999999.tmp", "mine"]
    assert (tmp_path / "mine" / "a").read_text() == "whole"


def test_a_folder_that_fails_half_way_is_not_there(tmp_path: Path):
    def half() -> None:
        with whole_folder(tmp_path / "new" / "mine") as folder:
            (folder / "a").write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(JepalmError, match="mine: No space left on device"):
        half()
    assert list((tmp_path / "new").iterdir()) == []
