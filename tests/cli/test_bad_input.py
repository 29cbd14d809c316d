"""Bad input: one clear line, exit code 2 (1 for faults met while running), never a traceback."""

import errno
import json
import shutil
import subprocess
import sys
import tempfile

import pytest

LINES = "".join(f"line {number} of the play\n" for number in range(60))


def complains(result, code, *words):
    assert result[0] == code, result
    (text,) = [line for line in result[2].strip().splitlines() if line.startswith("error: ")]
    for word in words:
        assert word in text
    assert "Traceback" not in result[2]


@pytest.fixture(scope="module")
def jepalm(jepalm_command):
    return jepalm_command


@pytest.fixture(scope="module")
def settings(tiny):
    return ["--data=play", "--preset=nano", *tiny]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, jepalm, settings):
    """A working directory with prepared data and a tiny finished run."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "play.txt").write_text(LINES)
    assert jepalm("prepare", "text", "play.txt", "--name", "play", cwd=folder)[0] == 0
    code, _, err = jepalm("train", *settings, cwd=folder)
    assert code == 0, err
    return folder


@pytest.fixture
def work(trained, tmp_path):
    """A copy to break."""
    shutil.copytree(trained, tmp_path / "work", symlinks=True)
    return tmp_path / "work"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "shakespear"], ["unknown preset shakespear", "shakespeare"]),
        (["model.dmi=512"], ["unknown key model.dmi", "did you mean model.dim?"]),
        (["modle.dim=512"], ["unknown key modle", "did you mean model?"]),
        (["model.dim"], ["section.key=value"]),
        (["--epochs", "-1"], ["training.epochs=-1", "greater than or equal to 1"]),
        (["--lr", "nan"], ["optimizer.lr=nan", "finite"]),
        (["--batch-size", "0"], ["training.batch_size=0"]),
        (["--steps", "0"], ["training.steps=0"]),
        (["--precision", "fp8"], ["hardware.precision='fp8'", "'auto', 'fp32' or 'bf16'"]),
        (["--device", "tpu"], ["hardware.device='tpu'"]),
        (["--data", "nowhere"], ["nowhere", "jepalm prepare"]),
        (["--config", "missing.yaml"], ["no such file: missing.yaml"]),
        (["--config", "list.yaml"], ["list.yaml", "mapping"]),
        (["--config", "latin.yaml"], ["latin.yaml", "UTF-8"]),
        (["--config", "broken.yaml"], ["broken.yaml", "line 3", "YAML"]),
        (["--config", "wrong.yaml"], ["model.dim='wide'", "integer"]),
        (["--resume", "nowhere"], ["no run at nowhere"]),
        (["--resume", "empty"], ["is empty"]),
        (["--resume", "other"], ["not a run"]),
        (["--resume", "play.txt"], ["not a run folder"]),
        (["--resume", "runs/latest", "--preset", "nano"], ["--preset does not go with --resume"]),
        (["--resume", "runs/latest", "model.dim=32"], ["model.dim cannot change"]),
        (["--resume", "runs/latest"], ["nothing left to train: step 4 of 4"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_train_refuses(work, arguments, words, jepalm):
    (work / "list.yaml").write_text("- 1\n")
    (work / "latin.yaml").write_bytes("préset: nano\n".encode("latin-1"))
    (work / "broken.yaml").write_text("model:\n  dim: [1\n")
    (work / "wrong.yaml").write_text("model:\n  dim: wide\n")
    (work / "empty").mkdir()
    (work / "other").mkdir()
    (work / "other" / "file").touch()
    if not any(argument.startswith(("--data", "--resume")) for argument in arguments):
        arguments = ["--data", "play", *arguments]
    before = sorted(path.name for path in (work / "runs").iterdir())
    complains(jepalm("train", *arguments, cwd=work), 2, *words)
    assert sorted(path.name for path in (work / "runs").iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["To be", "--run", "nowhere"], ["no run at nowhere"]),
        (["To be", "--run", "play.txt"], ["not a run folder"]),
        (["To be", "--checkpoint", "7"], ["has no checkpoint 7", "last, best"]),
        (["To be", "--length", "65"], ["length 65 is out of range", "1 to 64"]),
        (["naïve — really", "--length", "3"], ["outside the model's alphabet", "U+00EF", "U+2014"]),
        (["To be", "--device", "tpu"], ["hardware.device='tpu'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_generate_refuses(trained, arguments, words, jepalm):
    complains(jepalm("generate", *arguments, cwd=trained), 2, *words)


def test_a_flag_out_of_range_is_refused_by_name(trained, jepalm):
    code, _, err = jepalm("generate", "To be", "--passages", "0", cwd=trained)
    assert code == 2
    assert "--passages" in err


@pytest.mark.parametrize("command", ["prepare", "trian", ""])
def test_an_unknown_command_or_corpus_exits_with_2(trained, command, jepalm):
    arguments = ["prepare", "shakespear"] if command == "prepare" else [command]
    assert jepalm(*arguments, cwd=trained)[0] == 2


def test_report_of_a_missing_run_is_refused(trained, jepalm):
    complains(jepalm("report", "nowhere", cwd=trained), 2, "no run at nowhere")


def test_no_run_yet_names_what_makes_one(tmp_path, jepalm):
    complains(jepalm("generate", "To be", cwd=tmp_path), 2, "no run at runs/latest", "jepalm train")


def test_a_damaged_checkpoint_is_passed_over_and_named_when_asked_for(work, jepalm):
    newest = max((work / "runs" / "latest" / "checkpoints").glob("step-*"))
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    complains(jepalm("generate", "x", "--checkpoint", "4", cwd=work), 1, "damaged", "model.safetensors")
    code, out, _ = jepalm("generate", "x", "--json", cwd=work)
    assert (code, json.loads(out)["step"]) == (0, 2)


def test_a_run_without_checkpoint_is_refused(work, jepalm):
    shutil.rmtree(work / "runs" / "latest" / "checkpoints")
    complains(jepalm("generate", "x", cwd=work), 2, "has no checkpoint yet")


def test_a_damaged_manifest_is_one_line(work, jepalm):
    (work / "runs" / "latest" / "manifest.json").write_text("{")
    complains(jepalm("generate", "x", cwd=work), 1, "manifest.json", "damaged")


def test_an_edited_config_of_a_run_is_one_line(work, jepalm):
    config = work / "runs" / "latest" / "config.yaml"
    config.write_text(config.read_text().replace("dim: 16", "dim: 20"))
    complains(jepalm("generate", "x", cwd=work), 1, "does not fit the model of its config")


def test_prepared_data_deleted_under_a_run_is_one_line(work, jepalm):
    shutil.rmtree(work / "data" / "play")
    complains(jepalm("train", "--resume", "runs/latest", "--steps", "8", cwd=work), 2, "play", "prepare")


def test_prepared_data_changed_under_a_run_is_one_line(work, jepalm):
    (work / "play.txt").write_text(LINES.upper())
    assert jepalm("prepare", "text", "play.txt", "--name", "play", "--force", cwd=work)[0] == 0
    result = jepalm("train", "--resume", "runs/latest", "--steps", "8", cwd=work)
    complains(result, 1, "was changed since")


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["train", "dry run"])
def test_an_unwritable_run_folder_is_one_line(work, jepalm, settings, dry):
    (work / "file").touch()
    complains(jepalm("train", *settings, *dry, "--run-dir", "file/runs", cwd=work), 1, "file/runs")
    (work / "taken" / "latest").mkdir(parents=True)
    complains(jepalm("train", *settings, *dry, "--run-dir", "taken", cwd=work), 1, "taken/latest is a folder")
    (work / "gone").symlink_to("nowhere")
    complains(jepalm("train", *settings, *dry, "--run-dir", "gone", cwd=work), 1, "a run under gone")


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["train", "dry run"])
def test_a_run_that_cannot_be_written_is_not_resumed(work, jepalm, dry, monkeypatch):
    def read_only(*given, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkdtemp", read_only)  # root may write everywhere
    result = jepalm("train", "--resume", "runs/latest", "--steps", "8", *dry, cwd=work)
    complains(result, 1, "Read-only file system", "make the folder writable")


def test_a_full_disk_is_one_line_and_leaves_no_half_checkpoint(work, monkeypatch, jepalm, settings):
    import jepalm.training.checkpoint as checkpoint

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    result = jepalm("train", *settings, cwd=work)
    complains(result, 1, "No space left on device", "free disk space")
    assert "training goes on without this checkpoint" in result[1]
    run = work / "runs" / "latest"
    assert list((run / "checkpoints").glob("*")) == []
    assert json.loads((run / "manifest.json").read_text())["status"] == "failed"


def test_the_module_runs_as_torchrun_starts_it(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "jepalm", "generate", "x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: no run at runs/latest")
