"""Hidden spans as a user meets them: prepare, train, infill, evaluate, report, refusals."""

import json
import re

import pytest

LINES = "".join(f"line {number} of the play\n" for number in range(300))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, jepalm_command, tiny):
    """A run of spans, and one of lines beside it."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "play.txt").write_text(LINES)
    commands = (
        ("prepare", "text", "play.txt", "--name", "lines"),
        ("prepare", "text", "play.txt", "--name", "gaps", "--pairing", "spans"),
        ("train", "--preset", "nano", "--data", "lines", "--run-dir", "lines", *tiny),
        ("train", "--preset", "nano-spans", "--data", "gaps", *tiny),
    )
    said = []
    for command in commands:
        code, out, err = jepalm_command(*command, cwd=folder)
        assert code == 0, err
        said.append(out)
    (folder / "said.json").write_text(json.dumps(said))
    return folder


def test_prepare_and_train_name_the_next_command(trained):
    _, prepared, _, train = json.loads((trained / "said.json").read_text())
    assert re.search(r"^pairs     spans: .* train / .* validation / .* test tokens$", prepared, re.M)
    assert "97 symbols + 4" in prepared
    assert "next      jepalm train --preset shakespeare-spans --data gaps" in prepared
    assert re.search(r'^next      jepalm infill "[^"]*_+[^"]*"$', train, re.M)


def test_infill_prints_the_filled_text_and_what_it_took(trained, jepalm_command):
    code, out, err = jepalm_command("infill", "To be, or ____ to _e", cwd=trained)
    assert code == 0
    assert re.fullmatch(r"To be, or .{4} to .e\n", out, re.S)
    assert re.search(r"^1 forward pass · 5 characters · [\d.]+ m?s · .*-nano-spans at step 4$", err, re.M)


def test_infill_as_json_tells_what_was_filled(trained, jepalm_command):
    arguments = ("line _ of ___ play", "--samples", "3", "--seed", "7", "--json")
    row = json.loads(jepalm_command("infill", *arguments, cwd=trained)[1])
    assert (len(row["texts"]), row["nfe"], row["characters"], row["temperature"]) == (3, 1, 12, 1.0)
    for text, (one, other) in zip(row["texts"], row["filled"], strict=True):
        assert text == f"line {one} of {other} play"


def test_a_dash_reads_the_text_from_standard_input(trained, jepalm_command):
    row = json.loads(jepalm_command("infill", "-", "--json", cwd=trained, stdin=b"lin_ 1\n")[1])
    assert row["prompt"] == "lin_ 1"


def test_the_predicted_embeddings_of_the_gaps_can_be_drawn(trained, jepalm_command):
    arguments = ("li__ 1", "--show-embeddings", "--json")
    picture = json.loads(jepalm_command("infill", *arguments, cwd=trained)[1])["embeddings"]
    assert (trained / picture).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", "line 3"], ["fills gaps in a text and does not continue one", "jepalm infill"]),
        (["infill", "line 3"], ["no gap to fill"]),
        (["infill", "x" * 64 + "_"], ["65 tokens, more than the 64"]),
        (["infill", "line _", "--run", "lines/latest"], ["trained on lines", "--pairing spans"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_generate_and_infill_refuse_in_one_line(trained, jepalm_command, arguments, words):
    code, _, err = jepalm_command(*arguments, cwd=trained)
    assert code == 2
    (text,) = err.strip().splitlines()
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nano", "--data", "gaps"], ["hidden spans have no length", "objective.length.kind=none"]),
        (["shakespeare-ar-small", "--data", "gaps"], ["model.family=causal", "--pairing windows"]),
        (["nano-spans", "--data", "gaps", "model.target_len=32"], ["64 and model.target_len 32", "the same"]),
        (["nano-spans", "--data", "gaps", "model.latent.tokens=4"], ["latent.tokens=4", "set it to 1"]),
        (["nano-spans", "--data", "lines"], ["objective.local.weight does nothing with lines"]),
        (["nano", "--data", "lines", "data.spans.share=0.5"], ["data.spans does nothing with lines"]),
        (["nano-spans", "--data", "gaps", "data.spans.share=1"], ["data.spans.share=1", "less than 1"]),
    ],
    ids=lambda value: " ".join(value)[:50],
)
def test_train_refuses_in_one_line(trained, jepalm_command, arguments, words):
    code, _, err = jepalm_command("train", "--dry-run", "--preset", *arguments, cwd=trained)
    assert code == 2
    (text,) = err.strip().splitlines()
    assert all(word in text for word in words), text


def test_evaluate_measures_the_gaps_and_says_what_it_leaves_out(trained, jepalm_command):
    code, out, _ = jepalm_command("evaluate", "--prompts", "4", cwd=trained)
    assert code == 0
    assert "4 texts of validation with gaps" in out
    assert "left out: a run that fills gaps continues no prompt" in out
    tree = json.loads(jepalm_command("evaluate", "--prompts", "4", "--json", cwd=trained)[1])
    rows = {row["name"]: row for row in tree["rows"]}
    assert {name.partition("/")[0] for name in rows} == {"decoder", "embedding"}
    assert tree["left_out"]
    controls = rows["decoder/generation_ce"]["controls"]
    assert 0 < controls["5-gram that sees the true past"] < controls["training unigram"]


def test_evaluate_refuses_a_baseline_for_a_run_of_spans(trained, jepalm_command):
    run = (trained / "runs" / "latest").resolve()
    code, _, err = jepalm_command("evaluate", "--prompts", "4", "--baseline", run, cwd=trained)
    assert code == 2
    assert "a run that fills gaps takes no --baseline" in err


def test_the_report_has_the_local_term(trained, jepalm_command):
    code, out, _ = jepalm_command("report", cwd=trained)
    assert code == 0
    assert re.search(r"^ *local +[\d.]+ %", out, re.M)
