"""`jepalm sweep` as a command: table, files, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jepalm.sweep.file import read_sweep

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("sweep-*.yaml"))


@pytest.fixture
def call(in_this_process, tmp_path, data_root, tiny_settings, jepalm_command):
    def call(text, *words):
        settings = json.dumps(tiny_settings(training__steps=2))
        (tmp_path / "lab.yaml").write_text(f"preset: nano\nset: {settings}\n{text}")
        return jepalm_command("sweep", "lab.yaml", "--data-dir", data_root, *words, cwd=tmp_path)

    return call


ROWS = "seeds: [0, 1]\nmetrics: [validation/r2]\nrows: {base: , low: optimizer.lr=1e-5}\n"


def test_a_sweep_ends_in_its_table_and_again_prints_only_that(call, tmp_path):
    code, out, err = call(ROWS)
    assert code == 0, err
    assert "4/4  low seed 1" in out
    code, again, _ = call(ROWS)
    assert code == 0
    assert out.endswith(again)
    assert again.startswith("2 rows, seeds 0, 1; the reference is base\n")
    assert "\nvalidation/r2 " in again
    folder = tmp_path / "runs" / "sweeps" / "lab"
    assert again.rstrip().endswith("page      runs/sweeps/lab/sweep.html")
    assert (folder / "sweep.yaml").read_text() == (tmp_path / "lab.yaml").read_text()
    code, out, _ = call(ROWS, "--json")
    tree = json.loads(out)
    assert tree.pop("page") == "runs/sweeps/lab/sweep.html"
    assert tree == json.loads((folder / "sweep.json").read_text())
    assert [row["row"] for row in tree["metrics"][0]["rows"]] == ["base", "low"]


def test_a_failed_row_is_reported_by_the_exit_code_each_time(call):
    text = "seeds: [0]\nmetrics: [validation/r2]\nrows: {base: , lost: objective.embedding.weight=1e38}\n"
    for _ in range(2):
        code, out, err = call(text)
        assert code == 1
        assert "is not finite" in out
        assert "Traceback" not in err


def test_a_dry_run_says_what_is_missing_and_writes_nothing(call, tmp_path):
    code, out, _ = call(ROWS, "--dry-run")
    assert code == 0
    assert "missing   4 of 4" in out
    assert "row       low: optimizer.lr=1e-05" in out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_checked_whole_by_a_dry_run(path, tmp_path, data_root, jepalm_command):
    names = ("shakespeare", "nl-rx", "nl-rx-smollm2", "home", "home-noise-0", "home-noise-2", "home-noise-4")
    for name in names:
        (tmp_path / name).symlink_to(data_root / "lines")
    code, out, err = jepalm_command("sweep", path, "--dry-run", "--data-dir", tmp_path, cwd=tmp_path)
    assert code == 0, err
    sweep = read_sweep(path)
    runs = len(sweep.rows) * len(sweep.seeds)
    assert f"missing   {runs} of {runs}" in out


def test_an_unknown_key_is_one_line_and_exit_code_2(call):
    code, _, err = call("seed: [0]\n")
    assert (code, err) == (2, "error: lab.yaml: unknown key seed (did you mean seeds?)\n")


def test_importing_the_command_loads_nothing_heavy_and_a_finished_table_needs_no_torch():
    code = (
        "import sys, jepalm.cli.sweep; print(sorted({'torch', 'numpy', 'pydantic'} & set(sys.modules)));"
        "import jepalm.sweep.running, jepalm.report.render.several; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]
