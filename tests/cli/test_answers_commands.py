"""Given pairs from the command line: prepared by task, answered many at a time, scored beside another run."""

import json
import re

import pytest

TINY = (
    "--steps=4",
    "--batch-size=4",
    "model.dim=16",
    "model.n_heads=2",
    "model.source_len=16",
    "model.target_len=8",
    "training.validation_batches=1",
    "training.samples=0",
    "hardware.threads=1",
)
CAUSAL = ("model.family=causal", "model.causal.n_layers=1", "model.causal.context_len=25")
JEPALM = ("model.encoder.n_layers=1", "model.predictor.n_layers=1", "model.decoder.n_layers=1")


@pytest.fixture(scope="module")
def work(tmp_path_factory, jepalm_command):
    folder = tmp_path_factory.mktemp("pairs")
    rows = [{"question": f"1 and {k}?", "answer": f"#### {k + 1}"} for k in range(40)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("prepare", "pairs", "rows.jsonl", "--task", "gsm8k", "--split", "60/20/20", "--name", "sums")
    assert jepalm_command(*arguments, cwd=folder)[0] == 0
    for name, parts in (("ar", CAUSAL), ("one", JEPALM)):
        arguments = ("train", "--data", "sums", "--name", name, "--run-dir", f"runs-{name}", *TINY, *parts)
        code, _, err = jepalm_command(*arguments, cwd=folder)
        assert code == 0, err
    return folder


@pytest.mark.parametrize("name", ["ar", "one"])
def test_many_prompts_become_a_json_row_each(work, jepalm_command, name):
    run = ("--run", f"runs-{name}/latest")
    (work / "questions.txt").write_bytes(b"1 and 2?\r\n1 and 30?\nwho?")
    code, out, err = jepalm_command("generate", "--prompts", "questions.txt", *run, cwd=work)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [row["prompt"] for row in rows] == ["1 and 2?", "1 and 30?", "who?"]
    single = json.loads(jepalm_command("generate", "who?", "--json", *run, cwd=work)[1])
    assert rows[2]["texts"] == single["texts"]
    line = r"3 prompts · \d+ forward pass(es)? · \d+ characters? · .* characters/s · .* at step 4"
    assert re.search(line, err)


def test_samples_of_many_prompts_repeat_with_their_seed(work, jepalm_command):
    def call(seed):
        arguments = ("--prompts", "-", "--samples", "40", "--seed", seed, "--run", "runs-ar/latest")
        out = jepalm_command("generate", *arguments, cwd=work, stdin=b"1 and 2?\n1 and 2?\n")[1]
        return [json.loads(line)["texts"] for line in out.splitlines()]

    first = call(1)
    assert [len(texts) for texts in first] == [40, 40]
    assert call(1) == first != call(2)
    assert first[0] != first[1]  # two batches, each with its draws


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (("--prompts", "-"), b"", "there are no prompts"),
        (("--prompts", "-"), b"1\n\n2\n", "prompt 2: the prompt is empty"),
        (("--prompts", "-"), "1\né\n".encode(), "prompt 2: the prompt has characters outside"),
        (("--prompts", "-"), b"\xff\n", "standard input is not UTF-8"),
        (("--prompts", "nowhere.txt"), b"", "no such file: nowhere.txt"),
        (("1", "--prompts", "-"), b"1", "--prompts does not go with a prompt"),
        (("--prompts", "-", "--show-embeddings"), b"1", "--show-embeddings does not go with --prompts"),
        (("--prompts", "-", "--top-k", "2"), b"1", "top-k and top-p go with a causal model"),
    ],
)
def test_prompts_that_cannot_be_read_are_one_line(work, jepalm_command, arguments, stdin, message):
    code, out, err = jepalm_command("generate", *arguments, "--run", "runs-one/latest", cwd=work, stdin=stdin)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_a_causal_run_is_evaluated_by_its_answers_beside_another(work, jepalm_command):
    arguments = ("runs-ar/latest", "--split", "test", "--baseline", "runs-one/latest")
    code, out, err = jepalm_command("evaluate", *arguments, cwd=work, COLUMNS="120")
    assert code == 0, err
    head = out.splitlines()
    assert re.fullmatch(r".*-ar at step 4 · 8 answers to test, likeliest text, task gsm8k · seed 0", head[0])
    assert head[4].startswith("baseline: ")
    for words in ("right answer", "exact match", "nearest source's answer", "passes/answer"):
        assert words in out
    tree = json.loads((work / "runs-ar" / "latest" / "report" / "evaluation-test.json").read_text())
    rows = {row["name"]: row for row in tree["rows"]}
    assert rows["task/answer"]["baseline"] is not None
    assert rows["writing/passes"]["baseline"] == 1


def test_a_jepalm_says_what_it_answered(work, jepalm_command):
    arguments = ("runs-one/latest", "--prompts", "4", "--split", "test")
    code, out, err = jepalm_command("evaluate", *arguments, cwd=work, COLUMNS="120")
    assert code == 0, err
    assert out.splitlines()[1] == "4 answers to test, likeliest text, task gsm8k"
    assert out.index("right answer") < out.index("CE on target")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--reading", "letter"), "--reading does nothing for the task gsm8k"),
        (("--databases", "."), "--databases does nothing for the task gsm8k"),
    ],
)
def test_settings_that_do_nothing_for_answers_are_refused(work, jepalm_command, arguments, message):
    code, _, err = jepalm_command("evaluate", "runs-ar/latest", *arguments, cwd=work)
    assert code == 2
    assert err.startswith(f"error: {message}")
