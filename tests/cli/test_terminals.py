"""What is printed can be read on any encoding and width, and in the logs of CI."""

import io
import json
import os
import pty
import re
import subprocess
import sys

import pytest

from jepalm.cli import console, streams

LINES = "".join(f"Zeile {number} der Mühle – ж\n" for number in range(40))


@pytest.fixture
def printed(monkeypatch):
    """Print to a standard output of an encoding, and return its bytes."""

    def printed(encoding, write):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
        monkeypatch.setattr(sys, "stdout", stream)
        streams.print_anywhere()
        write()
        stream.flush()
        return stream.buffer.getvalue()

    return printed


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", b"ok 5 - 3 +/-0.1 ... r?sum? ?\n"),
        ("latin-1", b"ok 5 \xb7 3 \xb10.1 ... r\xe9sum\xe9 ?\n"),
        ("cp1252", b"ok 5 \xb7 3 \xb10.1 \x85 r\xe9sum\xe9 ?\n"),
        ("utf-8", "✔ 5 · 3 ±0.1 … résumé ж\n".encode()),
    ],
)
def test_signs_become_ascii_where_an_encoding_lacks_them(printed, encoding, shown):
    assert printed(encoding, lambda: console.console.print("✔ 5 · 3 ±0.1 … résumé ж")) == shown


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_loses_nothing_on_any_encoding(printed, encoding):
    tree = {"text": "Mühle – ж 😀"}
    assert json.loads(printed(encoding, lambda: console.print_json(tree)).decode(encoding)) == tree


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "cp1252"])
def test_a_command_ends_on_any_encoding(tmp_path, encoding):
    (tmp_path / "ж.txt").write_text(LINES)
    done = subprocess.run(
        [sys.executable, "-m", "jepalm", "prepare", "text", "ж.txt", "--name", "a", "--alphabet", "data"],
        cwd=tmp_path,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"given text (?.txt)" in done.stdout


def test_force_color_gives_no_live_display_in_a_file(tmp_path):
    (tmp_path / "a.txt").write_text(LINES)
    done = subprocess.run(
        [sys.executable, "-m", "jepalm", "prepare", "text", "a.txt", "--tokenizer", "byte"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "FORCE_COLOR": "1", "CI": "true"},
        check=True,
    )
    assert "\x1b[1m" in done.stdout  # labels are bold
    assert not re.search(r"\x1b\[\?25|\x1b\[\d*[AK]|\r", done.stdout)  # nothing hides the cursor or goes back


@pytest.mark.parametrize(("environment", "styled"), [({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_a_terminal_without_colour_gets_plain_text(tmp_path, environment, styled):
    ours, theirs = pty.openpty()
    env = {**os.environ, "COLUMNS": "40", "TERM": "xterm", **environment}
    done = subprocess.run(
        [sys.executable, "-m", "jepalm", "presets"], cwd=tmp_path, stdout=theirs, env=env, check=False
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert done.returncode == 0
    assert (b"\x1b[3" in shown) == styled
    lines = re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).splitlines()
    assert max(map(len, lines)) <= 40


def test_long_lines_are_folded_beside_their_label_and_commands_are_not(tmp_path, jepalm_command):
    (tmp_path / "a.txt").write_text(LINES)
    arguments = ("prepare", "text", "a.txt", "--data-dir", "a folder with a very long name")
    code, out, _ = jepalm_command(*arguments, cwd=tmp_path, COLUMNS="40")
    assert code == 0
    *lines, command = out.splitlines()
    assert command == 'next      jepalm train --data a --data-dir "a folder with a very long name"'
    assert max(map(len, lines)) <= 40
    assert any(line.startswith(" " * 10) for line in lines)


def test_a_closed_standard_input_is_one_line(tmp_path):
    program = (
        "import sys, jepalm.cli\n"
        "sys.stdin, sys.argv = None, ['jepalm', 'runs', '--prune']\n"
        "jepalm.cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_no_columns_are_as_many_as_usual(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "0")
    shown = console.EscapingConsole(soft_wrap=True)
    shown.print("a line")
    assert (shown.width, capsys.readouterr().out) == (80, "a line\n")
