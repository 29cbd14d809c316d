"""SIGKILL at any write of a prepare, a sweep and a report: the old state or the new, and the same end."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torture import FULL, RUNS, count, ended, files_of, forked, killed, write_failure

from jepalm.report.plots.draw import Plot
from jepalm.report.render.blocks import Document, Heading, Paragraph
from jepalm.report.render.write import write
from jepalm.run import RunFolder, open_run


def test_a_prepare_killed_at_any_write_leaves_the_old_data_or_none(tmp_path, chance):
    from jepalm.data.job import Job
    from jepalm.data.prepared import Origin, Request, open_prepared
    from jepalm.data.text.preparing import prepare_text
    from jepalm.data.text.reading import RawText

    asked = Request(pairing="lines", tokenizer="char", alphabet="data", split=(80.0, 10.0, 10.0))
    root = Path(tmp_path / "data")

    def prepare(text):
        job = Job(root, "play", "text", Origin(source="text", where=["a"]), "none", asked, force=True)
        prepare_text(job, RawText(content=text.encode()))

    known = {}
    for name in ("old line\n", "another line\n"):
        prepare(name * 50)
        known[name] = open_prepared("play", root).meta.content_sha256
    for _ in range(300 if FULL else 12):
        name = chance.choice([*known])
        killed(lambda name=name: prepare(name * 50), chance.randrange(1, 60))
        if (root / "play").exists():
            assert open_prepared("play", root).meta.content_sha256 in known.values()
    prepare("old line\n" * 50)
    assert [path.name for path in root.iterdir()] == ["play"]


def document(word):
    """A report whose every file holds a word."""
    plot = Plot("phases", "Phases", word, f"<svg>{word}</svg>", word.encode() * 99)
    tables = {f"{name}.csv": f"{name}\n{word}\n" for name in ("samples", "metrics")}
    return Document("Run", word, [Heading("Run"), Paragraph(word), plot], "read on", tables)


def test_a_report_killed_at_any_write_has_old_files_or_new_ones(tmp_path, chance):
    whole = {}
    for word in ("first", "second"):
        write(document(word), tmp_path / word)
        whole[word] = files_of(tmp_path / word)
    write(document("first"), tmp_path / "report")
    for _ in range(200 if FULL else 8):
        word = chance.choice([*whole])
        killed(lambda word=word: write(document(word), tmp_path / "report"), chance.randrange(1, 50))
        found = files_of(tmp_path / "report")
        assert whole["first"].keys() <= found.keys()
        wrong = [name for name in whole["first"] if found[name] not in [one[name] for one in whole.values()]]
        assert wrong == []
    write(document("second"), tmp_path / "report")
    assert files_of(tmp_path / "report") == whole["second"]


ROWS = """
metrics: [validation/r2, text/valid_words]
evaluate: {split: train, prompts: 4}
rows: {base: , low: optimizer.lr=1e-5}
"""
ROW = "metrics: [validation/r2]"


@pytest.fixture
def sweep_file(tmp_path, tiny_settings):
    path = tmp_path / "lab.yaml"
    path.write_text(f"preset: nano\nset: {json.dumps(tiny_settings())}\nseeds: [0]\n{ROWS if FULL else ROW}")
    return path


def swept(folder):
    """Metrics, troubles, fingerprints of the finished runs' weights, and what is left half-written."""
    table = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    weights = {}
    for path in sorted(folder.iterdir()):
        run = RunFolder(path)
        if path.is_symlink() or not run.manifest.exists() or run.read_manifest()["status"] != "finished":
            continue
        files = json.loads((open_run(path).step_folders()[0][1] / "files.json").read_text())
        weights[run.read_manifest()["name"]] = files["model.safetensors"]["sha256"]
    left = [path.name for path in folder.glob(".*.tmp")]
    return table["metrics"], [row["troubles"] for row in table["rows"]], weights, left


@pytest.fixture
def sweep_here(in_this_process, sweep_file, data_root, tmp_path, jepalm_command):
    """Run the sweep in this process, with its trainings and evaluations."""

    def sweep(runs):
        arguments = ("sweep", sweep_file, "--run-dir", runs, "--data-dir", data_root)
        code, _, err = jepalm_command(*arguments, cwd=tmp_path)
        assert (code, err) == (0, "")

    return sweep


def test_a_sweep_killed_at_any_write_and_called_again_ends_in_the_same_table(sweep_here, tmp_path, chance):
    assert ended(forked(lambda: sweep_here(tmp_path / "straight"))) == 0
    wanted = swept(tmp_path / "straight" / "sweeps" / "lab")
    for trial in range(RUNS // 2 if FULL else 1):
        runs = tmp_path / f"killed-{trial}"
        kills = [chance.randrange(1, 300 if FULL else 80) for _ in range(6 if FULL else 1)]
        for kill in [*kills, 10**9]:
            if not killed(lambda runs=runs: sweep_here(runs), kill):
                break
        found = swept(runs / "sweeps" / "lab")
        if found != wanted:
            write_failure(test="sweep", kills=kills, runs=str(runs))
        assert found == wanted, kills
        count("killed sweeps with the same table")


@pytest.mark.torture
def test_a_sweep_killed_at_any_time_takes_its_trainings_along(sweep_file, data_root, tmp_path, chance):
    """As processes: what a killed sweep started saves and stops, and holds the sweep until then."""
    command = [sys.executable, "-m", "jepalm", "sweep", sweep_file, "--data-dir", data_root, "--run-dir"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": tmp_path, "text": True}
    tables = []
    for trial in range(5):
        runs = tmp_path / f"runs-{trial}"
        for _ in range(2 if trial else 0):
            with subprocess.Popen([*command, runs], **quiet) as process:
                time.sleep(chance.uniform(1.0, 20.0))
                process.kill()
            count("kills", int(process.returncode == -signal.SIGKILL))
        for _ in range(60):
            done = subprocess.run([*command, runs], check=False, **quiet)
            if "by another process" not in done.stderr:
                break
            time.sleep(0.5)
        assert (done.returncode, done.stderr) == (0, "")
        tables.append(swept(runs / "sweeps" / "lab"))
    assert tables == [tables[0]] * 5


def test_a_command_stops_when_its_sweep_is_gone():
    from jepalm.sweep.commands import SWEEP

    command = "import time\nfrom jepalm.sweep import commands\n"
    command += "commands.LOOKS_EVERY_S = 0.01; commands.stop_with_sweep()\n"
    command += "print('ready', flush=True); time.sleep(60)"
    sweep = "import os, subprocess, sys\n"
    sweep += f"os.environ[{SWEEP!r}] = str(os.getpid())\n"
    sweep += f"subprocess.run([sys.executable, '-c', {command!r}])"
    with subprocess.Popen([sys.executable, "-c", sweep], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()
        assert process.stdout.read() == ""  # both have closed it
