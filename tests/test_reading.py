"""Lines of JSON that others wrote: each an object or nothing, in bounded depth and size."""

import os

import pytest

from jepalm import reading
from jepalm.reading import read_json_lines


def test_what_is_no_object_is_nothing_and_blank_lines_only_count(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = ['{"a": 1}', "", "[1]", '"event"', '{"a": ' + "9" * 400 + "}", "[" * 9000, '{"b": 2}', '{"torn']
    path.write_text("\n".join(lines))
    assert list(read_json_lines(path)) == [
        (1, {"a": 1}),
        (3, None),
        (4, None),
        (5, None),
        (6, None),
        (7, {"b": 2}),
        (8, None),
    ]


def test_a_line_that_is_too_long_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_LINE", 10)
    (tmp_path / "rows.jsonl").write_text('{"a": "' + "x" * 10 + '"}\n{"b": 2}\n')
    assert list(read_json_lines(tmp_path / "rows.jsonl"))[-1] == (3, {"b": 2})


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(OSError, match="not a file"):
        list(read_json_lines(tmp_path / "rows.jsonl"))
