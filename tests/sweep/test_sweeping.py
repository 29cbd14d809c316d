"""A sweep's runs: trained once, resumed, evaluated where that is missing, failures reported."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from jepalm.config import resolve
from jepalm.errors import JepalmError, UsageError
from jepalm.evaluation.metrics import find_metric
from jepalm.report.read import read_run
from jepalm.run import RunFolder, locked
from jepalm.sweep.commands import Commands
from jepalm.sweep.file import read_sweep
from jepalm.sweep.running import Sweeping
from jepalm.sweep.runs import run_name
from jepalm.training.checkpoint import find_checkpoint

METRICS = "metrics: [validation/r2, validation/generation_ce]\n"
EVALUATION = "evaluate: {split: train, prompts: 2}\n"


@pytest.fixture
def write(tmp_path, tiny_settings):
    """Write a sweep file of tiny runs."""

    def write(text="", seeds="[0, 1]", **changed):
        path = tmp_path / "lab.yaml"
        settings = [setting for setting in tiny_settings(**changed) if not setting.startswith("preset")]
        path.write_text(f"preset: nano\nset: {json.dumps(settings)}\nseeds: {seeds}\n{text}")
        return path

    return write


@pytest.fixture
def open_sweep(tmp_path, data_root):
    return lambda path, **others: Sweeping(read_sweep(path, **others), tmp_path / "runs", data_root)


@pytest.fixture
def lines():
    return []


def folders(sweeping):
    return sorted(path for path in sweeping.folder.iterdir() if path.is_dir() and not path.is_symlink())


def statuses(sweeping):
    return {f"{cell.row}/{cell.seed}": cell.status for cell in sweeping.cells()}


def test_every_row_and_seed_becomes_an_ordinary_run(in_this_process, write, open_sweep, lines):
    sweeping = open_sweep(write(METRICS + "rows: {base: , low: optimizer.lr=1e-5}"))
    assert set(statuses(sweeping).values()) == {"missing"}
    sweeping.train(1, lines.append)
    assert [path.name.split("_")[1][5:] for path in folders(sweeping)] == [
        "base-seed0",
        "base-seed1",
        "low-seed0",
        "low-seed1",
    ]
    assert set(statuses(sweeping).values()) == {"done"}
    assert [line.split(" · ")[0] for line in lines] == [
        "1/4  base seed 0",
        "2/4  base seed 1",
        "3/4  low seed 0",
        "4/4  low seed 1",
    ]
    assert not (sweeping.folder.parents[1] / "latest").exists()
    found = sweeping.table().metrics[0].lines
    for line in found:
        runs = [path for path in folders(sweeping) if f"-{line.row}-" in path.name]
        assert list(line.values.values()) == [read_run(run).validation[-1]["validation/r2"] for run in runs]
    assert found[1].difference.mean == pytest.approx(
        sum(found[1].values[seed] - found[0].values[seed] for seed in (0, 1)) / 2
    )


def test_a_finished_sweep_trains_nothing_again_and_a_new_row_only_itself(
    in_this_process, write, open_sweep, lines
):
    open_sweep(write(METRICS + "rows: {base: }", seeds="[0]")).train(1, lines.append)
    again = open_sweep(write(METRICS + "rows: {renamed: , low: optimizer.lr=1e-5}", seeds="[0]"))
    assert statuses(again) == {"renamed/0": "done", "low/0": "missing"}
    before = folders(again)[0].stat().st_mtime_ns
    again.train(1, lines.append)
    assert len(folders(again)) == 2
    assert folders(again)[0].stat().st_mtime_ns == before
    assert open_sweep(write(METRICS, seeds="[0]", hardware__threads=2)).open_cells() == []
    assert len(open_sweep(write(METRICS, seeds="[0]", training__steps=6)).open_cells()) == 1


def test_an_interrupted_run_goes_on_from_its_checkpoint_to_the_same_weights(
    in_this_process, write, open_sweep, lines, trained_run, changed_weights
):
    path = write(METRICS, seeds="[0]")
    open_sweep(path).train(1, lines.append)
    run = RunFolder(folders(open_sweep(path))[0])
    shutil.rmtree(run.checkpoints / "step-00000008")
    run.update_manifest(status="interrupted")
    sweeping = open_sweep(path)
    assert statuses(sweeping) == {"reference/0": "begun"}
    sweeping.train(1, lines.append)
    assert len(folders(sweeping)) == 1
    assert run.read_manifest()["resumed"] == [4]
    assert changed_weights(run, trained_run) == []


def test_a_run_killed_after_its_last_checkpoint_is_only_closed(in_this_process, write, open_sweep, lines):
    path = write(METRICS, seeds="[0]")
    open_sweep(path).train(1, lines.append)
    run = RunFolder(folders(open_sweep(path))[0])
    run.update_manifest(status="running")
    open_sweep(path).train(1, lines.append)
    assert (run.read_manifest()["status"], len(folders(open_sweep(path)))) == ("finished", 1)


def test_a_run_without_a_checkpoint_is_begun_anew(in_this_process, write, open_sweep, lines):
    path = write(METRICS, seeds="[0]")
    open_sweep(path).train(1, lines.append)
    run = RunFolder(folders(open_sweep(path))[0])
    shutil.rmtree(run.checkpoints)
    run.update_manifest(status="running")
    open_sweep(path).train(1, lines.append)
    assert len(folders(open_sweep(path))) == 2
    assert statuses(open_sweep(path)) == {"reference/0": "done"}


def test_a_loss_that_is_not_finite_is_recorded_and_the_sweep_goes_on(
    in_this_process, write, open_sweep, lines
):
    path = write(
        METRICS + "rows: {base: , lost: objective.embedding.weight=1e38, low: optimizer.lr=1e-5}", "[0]"
    )
    sweeping = open_sweep(path)
    sweeping.train(1, lines.append)
    assert statuses(sweeping) == {"base/0": "done", "lost/0": "failed", "low/0": "done"}
    assert "lost seed 0 · failed: the loss of step" in lines[1]
    table = open_sweep(path).table()
    assert "is not finite" in table.rows[1].troubles[0]
    assert [len(line.values) for line in table.metrics[0].lines] == [1, 0, 1]
    assert open_sweep(path).open_cells() == []


def test_another_fault_is_reported_and_tried_again(in_this_process, write, open_sweep, lines, monkeypatch):
    path = write(METRICS, seeds="[0]")
    full = JepalmError("no space left")
    with monkeypatch.context() as patch:
        patch.setattr("jepalm.session.Session.train", lambda *_: (_ for _ in ()).throw(full))
        sweeping = open_sweep(path)
        sweeping.train(1, lines.append)
    assert sweeping.table().rows[0].troubles == ["reference seed 0: no space left (exit code 1)"]
    assert len(open_sweep(path).open_cells()) == 1


def test_what_is_trained_is_evaluated_once_and_again_when_asked_otherwise(
    in_this_process, write, open_sweep, lines
):
    path = write(EVALUATION, seeds="[0]")
    sweeping = open_sweep(path)
    sweeping.train(1, lines.append)
    file = folders(sweeping)[0] / "report" / "evaluation-train.json"
    tree = json.loads(file.read_text())
    rows = {row["name"]: row for row in tree["rows"]}
    table = open_sweep(path).table()
    assert table.metrics[1].lines[0].values == {0: rows["decoder/generation_ce"]["model"]}
    assert table.metrics[3].metric.controls["real text"] == 0
    assert "scorer: Witten-Bell 5-gram" in table.notes[0]
    assert all(find_metric(name) for name in rows)
    assert open_sweep(path).open_cells() == []
    other = open_sweep(write("evaluate: {split: train, prompts: 2, seed: 4}", seeds="[0]"))
    assert statuses(other) == {"reference/0": "trained"}
    other.train(1, lines.append)
    assert json.loads(file.read_text())["seed"] == 4
    assert len(folders(other)) == 1
    file.unlink()
    assert statuses(open_sweep(path)) == {"reference/0": "trained"}


def test_a_causal_row_is_trained_first_and_scores_the_others(
    in_this_process, write, open_sweep, lines, data_root
):
    rows = """
rows:
  base:
  ar: [shakespeare-ar-small, data.name=lines, model.causal.n_layers=1, model.causal.context_len=25]
evaluate: {split: train, prompts: 2, baseline: ar}
"""
    path = write(seeds="[0]")
    keep = ("model.encoder", "model.predictor", "model.decoder")
    settings = [
        text for text in json.loads(path.read_text().splitlines()[1][5:]) if not text.startswith(keep)
    ]
    path.write_text(f"preset: nano\nset: {json.dumps(settings)}\nseeds: [0]\n{rows}")
    sweeping = open_sweep(path)
    sweeping.train(1, lines.append)
    assert [line.split(" · ")[0] for line in lines] == ["1/2  ar seed 0", "2/2  base seed 0"]
    again = open_sweep(path)
    assert statuses(again) == {"base/0": "done", "ar/0": "done"}
    gap = again.table().metrics[3]
    assert "baseline" in gap.metric.controls
    assert gap.lines[1].values == {}
    run = next(folder for folder in folders(again) if "-base-" in folder.name)
    tree = json.loads((run / "report" / "evaluation-train.json").read_text())
    assert tree["scorer"] == again.others["scorer"].name
    assert tree["asked"]["scorer"] == f"{tree['scorer']} at step 8"


def test_a_baseline_that_is_nowhere_or_no_judge_is_an_error(write, open_sweep, trained_run):
    path = write("rows: {base: }")
    for others, message in (
        ({"baseline": "bsae"}, r"no run or row bsae \(did you mean base\?\)"),
        ({"baseline": "base"}, "row base is no causal model"),
        ({"scorer": str(trained_run.path)}, "cannot score text"),
    ):
        with pytest.raises(UsageError, match=message):
            open_sweep(path, **others)


def test_missing_data_is_reported_before_anything_is_written(write, open_sweep, tmp_path):
    with pytest.raises(UsageError, match="no prepared data"):
        open_sweep(write("rows: {base: , other: {data: nowhere}}"))
    assert not (tmp_path / "runs").exists()


def test_a_sweep_runs_once_at_a_time(write, open_sweep, lines):
    sweeping = open_sweep(write(METRICS))
    sweeping.folder.mkdir(parents=True)
    with locked(RunFolder(sweeping.folder)), pytest.raises(JepalmError, match="by another process"):
        sweeping.train(1, lines.append)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            "import sys; print('a\\n\\nb\\nc\\nerror: d', file=sys.stderr); sys.exit(3)",
            "b | c | error: d (exit code 3)",
        ),
        ("import os; os.kill(os.getpid(), 9)", "jepalm train was ended by signal 9"),
    ],
)
def test_a_failed_command_is_reported_by_its_last_lines_and_its_exit_code(monkeypatch, program, message):
    real = subprocess.Popen
    monkeypatch.setattr(
        "jepalm.sweep.commands.subprocess.Popen",
        lambda command, **given: real([command[0], "-c", program], **given),
    )
    with pytest.raises(JepalmError) as caught:
        Commands(1).run(["train"], None)
    assert str(caught.value) == message


def test_commands_side_by_side_share_cores_and_threads(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2, 3})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = []
    monkeypatch.setattr(Commands, "call", lambda self, *given: found.append(given) or (0, ""))
    commands = Commands(2)
    for _ in range(3):
        commands.run(["train"], commands.threads)
    assert found == [(["train"], 2, [0, 1]), (["train"], 2, [2, 3]), (["train"], 2, [0, 1])]
    assert (Commands(1).threads, Commands(9).threads) == (None, 1)


def test_a_cells_command_line_gives_its_config(open_sweep, write, tmp_path):
    rows = "rows: {base: , phases: [shakespeare-two-phase, optimizer.lr=1e-5, data.name='lines']}"
    for cell in open_sweep(write(rows)).cells():
        _, _, preset, *rest = cell.train_arguments(tmp_path, tmp_path, 3)
        settings = [word for word in rest if "=" in word]
        assert resolve(preset, overrides=settings) == cell.config
    assert "hardware.threads=3" not in rest  # the row names a number itself


def test_a_teacher_named_by_its_preset_is_the_run_in_the_runs(open_sweep, write, tmp_path, trained_run):
    run = tmp_path / "runs" / "2026-01-01_0000-shakespeare-ar-small"
    shutil.copytree(trained_run.path, run)
    RunFolder(run).update_manifest(name="shakespeare-ar-small")
    rows = "rows: {one: {preset: shakespeare-oneshot-small, data: lines}}"
    cell = open_sweep(write(rows, seeds="[0]")).cells()[0]
    assert cell.config.objective.coupling.teacher == str(run)


def test_a_folders_name_keeps_the_seed():
    assert run_name("lr=0.1, batch_size=4", 7) == "lr-0.1-batch_size-4-seed7"
    assert run_name("x" * 60, 2**31 - 1) == "x" * 25 + "-seed2147483647"


def test_processes_side_by_side_are_saved_by_ctrl_c(write, open_sweep, data_root, tmp_path):
    """The short row ends, then Ctrl-C comes while the other one trains, or is still being put together."""
    path = write(
        METRICS + "rows: {long: training.steps=1000000, short: }", "[0]", training__checkpoint_every=10
    )
    command = [sys.executable, "-m", "jepalm", "sweep", str(path), "--jobs", "2"]
    command += ["--data-dir", str(data_root), "--run-dir", str(tmp_path / "runs")]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
    )
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=300)
    assert first.startswith("1/2  short seed 0 · r2 ")
    assert rest == "long seed 0 · saved\n"
    assert process.returncode == 130
    assert f"stopped and saved: 1 of 2 runs are done (go on with: jepalm sweep {path} " in errors
    assert "Traceback" not in errors
    sweeping = open_sweep(path)
    assert (sweeping.folder / "sweep.csv").is_file()
    (cell,) = sweeping.open_cells()
    if cell.run is not None and cell.run.read_manifest()["status"] == "interrupted":
        assert find_checkpoint(cell.run).step == cell.run.read_manifest()["step"]
