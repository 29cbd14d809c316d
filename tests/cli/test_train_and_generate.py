"""`jepalm train` and `jepalm generate` as a user calls them."""

import json
import re
import shlex
import subprocess
import sys

import pytest

LINES = "".join(f"line {number} of the play\n" for number in range(60))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, jepalm_command, tiny):
    folder = tmp_path_factory.mktemp("work")
    (folder / "play.txt").write_text(LINES)
    assert jepalm_command("prepare", "text", "play.txt", "--name", "play", cwd=folder)[0] == 0
    result = jepalm_command("train", "--preset", "nano", "--data", "play", *tiny, cwd=folder)
    assert result[0] == 0, result[2]
    (folder / "train.out").write_text(result[1])
    return folder


def test_train_says_what_it_trains_and_what_it_costs(trained):
    out = (trained / "train.out").read_text()
    assert re.search(r"^model     nano, [\d,.]+ (M )?parameters \(encoder .* predictor .* decoder", out, re.M)
    assert re.search(r"^cost      [\d.]+ ms a step \(timed\) · .* GFLOP a step · \d+ MB memory", out, re.M)
    assert re.search(r"^time      about .* here$", out, re.M)
    assert re.search(r"^finished   4 steps in", out, re.M)
    assert re.search(
        r'^next      jepalm generate "line 5\d of the play"\n {10}jepalm report runs/', out, re.M
    )


def test_next_names_a_run_that_generate_would_not_take(trained, jepalm_command, tiny):
    arguments = ("--preset", "nano", "--data", "play", "--run-dir", "other runs")
    code, out, err = jepalm_command("train", *arguments, *tiny, cwd=trained)
    assert code == 0, err
    assert re.search(r'^next .*--run "other runs/[\w.-]+"\n {10}jepalm report "other runs/', out, re.M)


def test_a_dry_run_writes_nothing(trained, tmp_path, jepalm_command, tiny):
    arguments = ("--preset", "nano", "--data", "play", "--dry-run", "--run-dir", tmp_path / "runs")
    code, out, _ = jepalm_command("train", *arguments, *tiny, cwd=trained)
    assert code == 0
    assert "GFLOP a step" in out
    assert not (tmp_path / "runs").exists()


def test_the_run_folder_holds_what_the_documentation_says(trained):
    run = trained / "runs" / "latest"
    names = {path.name for path in run.iterdir()}
    assert {
        "config.yaml",
        "manifest.json",
        "metrics.jsonl",
        "samples.jsonl",
        "log.txt",
        "tb",
        "tokenizer.json",
        "checkpoints",
    } <= names
    manifest = json.loads((run / "manifest.json").read_text())
    assert (manifest["status"], manifest["step"], manifest["steps"]) == ("finished", 4, 4)
    assert manifest["parameters"]["total"] == sum(
        count for part, count in manifest["parameters"].items() if part != "total"
    )


def test_a_name_and_a_folder_of_runs_can_be_given(trained, tmp_path, jepalm_command, tiny):
    arguments = ("--preset", "nano", "--data", "play", "--name", "my try", "--run-dir", tmp_path)
    assert jepalm_command("train", *arguments, *tiny, cwd=trained)[0] == 0
    assert (tmp_path / "latest").resolve().name.endswith("-my-try")


def test_environment_variables_move_data_and_runs(trained, tmp_path, jepalm_command, tiny):
    places = {"JEPALM_DATA": str(trained / "data"), "JEPALM_RUNS": str(tmp_path / "elsewhere")}
    arguments = ("--preset", "nano", "--data", "play", *tiny)
    assert jepalm_command("train", *arguments, cwd=tmp_path, **places)[0] == 0
    assert (tmp_path / "elsewhere" / "latest" / "manifest.json").exists()


def test_resuming_goes_on_in_the_same_folder(trained, jepalm_command, tiny, tmp_path):
    arguments = ("--preset", "nano", "--data", "play", "--run-dir", tmp_path)
    assert jepalm_command("train", *arguments, *tiny, cwd=trained)[0] == 0
    code, out, err = jepalm_command("train", "--resume", tmp_path / "latest", "--steps", "6", cwd=trained)
    assert code == 0, err
    assert "going on from step 4" in out
    assert len([path for path in tmp_path.iterdir() if path.name[0].isdigit()]) == 1
    rows = [json.loads(line) for line in (tmp_path / "latest" / "metrics.jsonl").read_text().splitlines()]
    assert {"kind": "event", "step": 4, "event": "resumed"} in rows
    assert max(row["step"] for row in rows) == 6


def test_generate_prints_text_on_stdout_and_the_rest_on_stderr(trained, jepalm_command):
    code, out, err = jepalm_command("generate", "line 3", "--length", "5", cwd=trained)
    assert code == 0
    assert len(out.removesuffix("\n")) <= 5
    assert re.search(r"1 forward pass · \d+ characters? · [\d.]+ m?s · .*-nano at step 4", err)


def test_generate_json_holds_texts_forward_passes_and_time(trained, jepalm_command):
    arguments = ("line 3", "--samples", "3", "--passages", "2", "--length", "4", "--seed", "7", "--json")
    row = json.loads(jepalm_command("generate", *arguments, cwd=trained)[1])
    assert (len(row["texts"]), row["nfe"], row["seed"], row["temperature"]) == (3, 2, 7, 1.0)
    assert row["characters"] == sum(map(len, row["texts"])) == 3 * 2 * 4
    assert row["prompt"] == "line 3\n"
    assert row["seconds"] > 0


def test_the_same_seed_gives_the_same_text(trained, jepalm_command):
    arguments = ("generate", "line", "--samples", "2", "--length", "30", "--json", "--seed")
    first, again, other = (
        json.loads(jepalm_command(*arguments, seed, cwd=trained)[1])["texts"] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_dash_reads_standard_input(trained, jepalm_command):
    row = json.loads(jepalm_command("generate", "-", "--json", cwd=trained, stdin=b"line 9\n")[1])
    assert row["prompt"] == "line 9\n"


def test_an_empty_prompt_is_a_blank_line_to_a_model_of_lines(trained, jepalm_command):
    assert json.loads(jepalm_command("generate", "", "--json", cwd=trained)[1])["prompt"] == "\n"


def test_a_prompt_of_several_lines_says_what_is_read(trained, jepalm_command):
    _, out, err = jepalm_command("generate", "one\ntwo", "--json", cwd=trained)
    assert json.loads(out)["prompt"] == "two\n"
    assert "note: this model reads one line" in err


def test_show_embeddings_writes_a_picture_into_the_run(trained, jepalm_command):
    code, out, _ = jepalm_command("generate", "line 3", "--show-embeddings", "--json", cwd=trained)
    assert code == 0
    picture = trained / json.loads(out)["embeddings"]
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_generate_loads_nothing_that_only_other_commands_need(trained):
    code = (
        "import sys, jepalm.cli\n"
        "sys.argv = ['jepalm', 'generate', 'line 5']\n"
        "jepalm.cli.app(standalone_mode=False)\n"
        "needless = {'torch._dynamo', 'sympy', 'scipy', 'matplotlib', 'tensorboard', 'transformers'}\n"
        "needless |= {'datasets', 'jepalm.session', 'jepalm.evaluation', 'jepalm.report'}\n"
        "needless &= set(sys.modules)\n"
        "sys.exit(f'loaded {needless}' if needless else 0)\n"
    )
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=trained, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr


def test_infill_as_a_flag_names_the_command(trained, jepalm_command):
    code, _, err = jepalm_command("generate", "--infill", "a _", cwd=trained)
    assert code == 2
    assert err == 'error: --infill is a command of its own (jepalm infill "a _")\n'


@pytest.mark.parametrize(
    ("arguments", "words"),
    [([], "nothing to read"), (["ab", "--prompts", "play.txt"], "--prompts does not go with a prompt")],
)
def test_generate_takes_one_prompt_or_a_file_of_them(trained, jepalm_command, arguments, words):
    code, _, err = jepalm_command("generate", *arguments, cwd=trained)
    assert code == 2
    assert words in err


def test_a_prompt_longer_than_the_source_says_how_many_tokens_are_cut(trained, jepalm_command):
    code, _, err = jepalm_command("generate", "a" * 80, cwd=trained)
    assert code == 0
    assert "note: the prompt has 81 tokens: the model reads the last 64, the first 17 are cut\n" in err


def test_many_prompts_say_so_in_one_line(trained, jepalm_command):
    (trained / "many.txt").write_text("a" * 64 + "\r\n" + "b\r\n" + "c" * 70 + "\r\n")
    code, _, err = jepalm_command("generate", "--prompts", "many.txt", "--length", "2", cwd=trained)
    assert code == 0
    assert err.startswith(
        "note: 2 prompts are longer than the model reads: in all the first 8 tokens are cut\n"
    )


def test_the_commands_shown_after_training_do_what_they_say(trained, jepalm_command, tiny):
    """With folders that need quotes: what the shell reads is run as it stands."""
    folders = ("--run-dir", "it's mine", "--data-dir", "my $data")
    assert jepalm_command("prepare", "text", "play.txt", "--name", "p", *folders[2:], cwd=trained)[0] == 0
    code, out, err = jepalm_command("train", "--preset", "nano", "--data", "p", *folders, *tiny, cwd=trained)
    assert code == 0, err
    commands = [shlex.split(line[10:]) for line in out.splitlines()[-2:]]
    assert [words[1] for words in commands] == ["generate", "report"]
    for words in commands:
        code, shown, err = jepalm_command(*words[1:], cwd=trained, COLUMNS="200")
        assert code == 0, err
    evaluate = next(line for line in shown.splitlines() if "jepalm evaluate" in line)
    assert shlex.split(evaluate.partition("jepalm ")[2])[-2:] == ["--data-dir", "my $data"]
