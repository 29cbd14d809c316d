"""Text from outside in the terminal, on the page, in Markdown and in tables."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

HOSTILE = "\x1b[2Jx\u202e[red]<script>alert(1)</script>|=1+1"


@pytest.fixture
def reported(trained_run, tmp_path, jepalm_command):
    """The report of a run whose samples and name are hostile: (stdout, its folder)."""
    shutil.copytree(trained_run.path, tmp_path / "run", symlinks=True)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    (tmp_path / "run" / "manifest.json").write_text(json.dumps({**manifest, "preset": HOSTILE}))
    sample = {"step": 8, "source": "=cmd|' /C calc'!A0", "target": HOSTILE, "generated": HOSTILE}
    (tmp_path / "run" / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    code, out, err = jepalm_command("report", "run", cwd=tmp_path)
    assert (code, err) == (0, "")
    return out, tmp_path / "run" / "report"


def test_no_escape_sequence_reaches_the_terminal_or_a_file(reported):
    out, folder = reported
    texts = [
        out,
        *(path.read_text() for path in folder.rglob("*") if path.suffix in (".html", ".md", ".csv")),
    ]
    assert [text for text in texts if "\x1b" in text or "\u202e" in text] == []
    assert "[red]" in out


def test_the_page_runs_nothing_and_asks_nobody(reported):
    page = (reported[1] / "report.html").read_text()
    assert "<script" not in page
    assert "default-src 'none'" in page
    elsewhere = page.replace("http://www.w3.org", "")
    assert [word for word in ("http://", 'src="http', "@import") if word in elsewhere] == []


def test_a_cell_is_no_formula(reported):
    rows = (reported[1] / "data" / "samples.csv").read_text().splitlines()
    assert rows[1].split(",")[1].startswith("'=cmd") or rows[1].split(",")[1].startswith("\"'=cmd")


@pytest.mark.parametrize(
    "name", ["\udc80", "\x1b[31m", "a" * 5000, "../../up"], ids=["surrogate", "escape", "long", "path"]
)
def test_a_name_from_outside_is_one_folder_and_one_line(
    data_root, tiny_settings, tmp_path, jepalm_command, name
):
    arguments = ("--preset", "nano", *tiny_settings(training__steps=2), "--data-dir", data_root)
    code, out, err = jepalm_command("train", *arguments, "--name", name, cwd=tmp_path)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    (run,) = [path for path in (tmp_path / "runs").iterdir() if not path.is_symlink()]
    assert len(run.name) < 70
    assert json.loads((run / "manifest.json").read_text())["name"].isprintable() or "\x1b" in name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_prepare_leaves_nothing_and_its_exit_code(tmp_path, number):
    """Stopped while it waits for the text on the standard input."""
    code = (
        "import os, signal, sys, jepalm.cli\n"
        "from jepalm.data import writing\n"
        "take = writing.put_in_place\n"
        f"writing.put_in_place = lambda *a, **k: os.kill(os.getpid(), {int(number)})\n"
        "sys.argv = ['jepalm', 'prepare', 'text', 'play.txt', '--name', 'play']\n"
        "jepalm.cli.main()\n"
    )
    (tmp_path / "play.txt").write_text("".join(f"line {n}\n" for n in range(100)))
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 128 + number
    assert result.stderr == "stopped (the same command begins again)\n"
    assert os.listdir(tmp_path / "data") == []


def test_the_second_signal_ends_a_training_at_once(data_root, tiny_settings, tmp_path):
    """The first asks to stop after the step, which never ends here."""
    arguments = ["jepalm", "train", "--preset", "nano", *tiny_settings(), "--data-dir", str(data_root)]
    code = (
        "import os, sys, time, jepalm.cli\n"
        "from jepalm.training import trainer\n"
        "def seed(*given):\n"
        "    print('in a step', flush=True)\n"
        "    while True: time.sleep(0.01)\n"
        "trainer.seed_step = seed\n"
        f"sys.argv = {arguments!r}\n"
        "jepalm.cli.main()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while process.stdout.readline() != "in a step\n":
        pass
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["train", "dry run"])
def test_a_held_out_split_that_is_too_short_is_refused_before_anything_is_made(
    data_root, tiny_settings, tmp_path, jepalm_command, dry
):
    settings = tiny_settings(data__name="windows", model__source_len=40, model__target_len=40)
    code, _, err = jepalm_command(
        "train", "--preset", "nano", *settings, "--data-dir", data_root, *dry, cwd=tmp_path
    )
    assert code == 2, err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()
