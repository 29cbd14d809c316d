"""The script of `make gpu`, tried on a CPU with tiny models."""

import json

import on_gpu
import pytest


def rows_of(tmp_path, parts):
    file = tmp_path / "gpu.json"
    assert on_gpu.main(["--device", "cpu", "--steps", "3", "--parts", parts, "--out", str(file)]) == 0
    return json.loads(file.read_text())["rows"]


def test_every_part_but_the_commands_works_on_tiny_models(tmp_path, capsys):
    rows = rows_of(tmp_path, "checks,waits,step,mfu")
    assert [row["what"] for row in rows if row["part"] == "step"] == [
        "eager",
        "compiled",
        "compiled and captured",
    ]
    assert len([row for row in rows if row["part"] == "checks"]) == 2 * len(on_gpu.OBJECTIVES)
    assert "| mfu | openwebtext, 4 pairs, eager |" in capsys.readouterr().out


@pytest.mark.slow
def test_compiling_and_the_commands_work_too(tmp_path):
    rows = rows_of(tmp_path, "compiled,commands")
    assert {row["part"] for row in rows} == {"compiled", "commands"}
    assert len(rows) == 5


def test_a_part_that_fails_fails_the_whole_and_not_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(on_gpu, "checks", lambda bench: 1 / 0)
    file = tmp_path / "gpu.json"
    given = ["--device", "cpu", "--steps", "1", "--parts", "checks,waits", "--out", str(file)]
    assert on_gpu.main(given) == 1
    assert [row["ok"] for row in json.loads(file.read_text())["rows"]] == [False, True]
