"""`jepalm export`: a folder of its own for every family, whole or not at all, with a card of true figures."""

import json
import re

import pytest
from safetensors.torch import load_file

from jepalm.numbers import three

LINES = "".join(f"line {number} of the play\n" for number in range(300))


def first_run(work):
    (run,) = (work / "runs").glob("*-first")
    return run


@pytest.fixture(scope="module")
def work(tmp_path_factory, jepalm_command, tiny):
    """A run of lines, evaluated, and its exported folder `out`."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "play.txt").write_text(LINES)
    for command in (
        ["prepare", "text", "play.txt", "--licence", "public domain"],
        ["train", "--preset", "nano", "--data", "play", "--name", "first", *tiny],
        ["evaluate", "--prompts", "3"],
        ["export", "--to", "out"],
    ):
        code, out, err = jepalm_command(*command, cwd=folder)
        assert code == 0, err
    (folder / "export.out").write_text(out)
    return folder


def test_the_folder_holds_weights_config_tokenizer_and_card(work):
    names = {path.name for path in (work / "out").iterdir()}
    assert names == {"model.safetensors", "config.json", "tokenizer.json", "README.md"}
    said = (work / "export.out").read_text()
    assert re.search(r"^model     0\.\d\d M parameters, fp32, of step 4$", said, re.M)
    assert re.search(r"^wrote     out  \([\d.]+ kB\)$", said, re.M)


def test_the_folder_names_no_folder_of_this_machine(work, jepalm_command, tiny):
    asked = ("train", "--preset", "nano", "--data", work / "data" / "play", *tiny)
    assert jepalm_command(*asked, cwd=work)[0] == 0
    assert jepalm_command("export", "--to", "bare", cwd=work)[0] == 0
    for name in ("config.json", "README.md"):
        assert str(work) not in (work / "bare" / name).read_text()
    record = json.loads((work / "bare" / "config.json").read_text())["jepalm"]
    assert (record["config"]["data"]["name"], record["step"]) == ("play", 4)


def test_generate_reads_the_folder_as_it_reads_the_run(work, jepalm_command):
    texts = []
    for run in (first_run(work), "out"):
        code, out, err = jepalm_command("generate", "line 3", "--json", "--run", run, cwd=work)
        assert code == 0, err
        texts.append(json.loads(out)["texts"])
    assert texts[0] == texts[1]


def test_the_card_has_the_datas_licence_and_the_runs_figures_beside_their_controls(work):
    card = (work / "out" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: jepalm\n")
    assert "| licence | public domain |" in card
    run = first_run(work)
    rows = json.loads((run / "report" / "evaluation-validation.json").read_text())["rows"]
    (found,) = [row for row in rows if row["name"] == "decoder/generation_ce"]
    line = next(line for line in card.splitlines() if line.startswith("| CE on predicted embeddings,"))
    assert f"| {three(found['model'])} |" in line
    assert "training unigram" in line
    points = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    last = [point for point in points if point["kind"] == "validation"][-1]
    assert f"\n| generation\\_ce | {three(last['validation/generation_ce'])} |\n" in card


def test_half_the_size_when_asked(work, jepalm_command):
    assert jepalm_command("export", "--to", "half", "--half", cwd=work)[0] == 0
    kinds = {str(tensor.dtype) for tensor in load_file(work / "half" / "model.safetensors").values()}
    assert kinds == {"torch.bfloat16"}
    assert jepalm_command("generate", "line 3", "--run", "half", cwd=work)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export"], "nowhere to write (give a folder with --to)"),
        (["export", "--to", "out"], "out is there already (name another folder)"),
        (["export", "out", "--to", "again"], "out is not a run: it has no manifest.json"),
        (["generate", "a", "--run", "out", "--checkpoint", "best"], "out is an exported model and has no"),
        (
            ["plan", "--run", "out", "--state", "a", "--goal", "b"],
            "out is an exported model without its data",
        ),
    ],
)
def test_what_cannot_be_exported_or_read_is_one_line(work, jepalm_command, arguments, words):
    code, _, err = jepalm_command(*arguments, cwd=work)
    assert code == 2
    assert words in err


def test_a_failure_leaves_nothing(work, jepalm_command, monkeypatch):
    def fail(*given, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jepalm.report.render.card.model_card", fail)
    code, _, err = jepalm_command("export", "--to", "never", cwd=work)
    assert (code, err) == (1, "error: cannot write never: No space left on device (name another folder)\n")
    assert [path.name for path in work.iterdir() if "never" in path.name] == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('{"jepalm": {"format": 2}}', "has format 2, this jepalm reads 1"),
        ('{"jepalm": {"format": 1, "config": {"model": {"dmi": 3}}}}', "unknown key config.model.dmi"),
        ('{"jepalm": {"format": 1}}', "has no model.safetensors"),
    ],
)
def test_a_folder_that_was_changed_is_one_line(work, tmp_path, jepalm_command, config, words):
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "tokenizer.json").write_text((work / "out" / "tokenizer.json").read_text())
    code, _, err = jepalm_command("generate", "a", "--run", tmp_path, cwd=work)
    assert code == 2
    assert words in err


def test_onnx_goes_with_a_jepalm_and_its_packages(work, jepalm_command, monkeypatch, tiny):
    monkeypatch.setattr("jepalm.generation.onnx_export.find_spec", lambda name: None)
    code, _, err = jepalm_command("export", "--to", "other", "--onnx", cwd=work)
    assert code == 2
    assert err == "error: --onnx needs onnx and onnxscript and onnxruntime (pip install 'jepalm[onnx]')\n"
    assert not (work / "other").exists()
