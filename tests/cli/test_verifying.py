"""`jepalm generate --verify` and `jepalm bench --verify`: the causal run's own text, and what is refused."""

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def runs(tmp_path_factory, train_tiny):
    """A drafter and a causal run of windows."""
    folder = tmp_path_factory.mktemp("verifying")
    drafter = train_tiny(folder / "drafter", data__name="windows", objective__length__kind="none")
    changed = {"model__family": "causal", "model__causal__n_layers": 1, "model__causal__context_len": 10}
    parts = {f"model__{part}__n_layers": 4 for part in ("encoder", "predictor", "decoder")}  # as by default
    causal = train_tiny(folder / "causal", data__name="windows", **changed, **parts)
    return {"drafter": drafter.path, "causal": causal.path}


@pytest.fixture(scope="module")
def call(jepalm_command, runs):
    def generate(*words, run="drafter", verify="causal"):
        verifying = () if verify is None else ("--verify", runs.get(verify, verify))
        arguments = ("generate", "abcd", "--run", runs.get(run, run), *verifying, *words)
        return jepalm_command(*arguments, cwd=Path.cwd())

    return generate


@pytest.mark.parametrize(
    "words", [(), ("--temperature", "1", "--seed", "5"), ("--samples", "3", "--top-k", "4")]
)
def test_the_text_is_that_of_the_causal_run(call, words):
    verified = call("--length", "25", *words, "--json")
    alone = call("--length", "25", *words, "--precision", "fp32", "--json", run="causal", verify=None)
    assert verified[0] == alone[0] == 0, verified[2]
    one, other = json.loads(verified[1]), json.loads(alone[1])
    assert one["texts"] == other["texts"]
    assert (one["prompt"], one["temperature"], one["seed"]) == tuple(
        other[key] for key in ("prompt", "temperature", "seed")
    )


def test_json_says_what_it_took(call, runs):
    row = json.loads(call("--length", "20", "--samples", "2", "--json")[1])
    assert row["characters"] == 40
    assert row["characters_per_check"] == pytest.approx(40 / sum(row["checks_of_each"]))
    assert row["checks"] == max(row["checks_of_each"]) <= 20
    assert row["drafts"] <= row["checks"]
    assert row["nfe"] == row["checks"] + row["drafts"]
    assert (row["run"], row["verifier"]) == (runs["drafter"].name, runs["causal"].name)


def test_without_a_length_it_is_the_context(call):
    assert len(json.loads(call("--json")[1])["texts"][0]) == 10


def test_people_see_passes_characters_and_both_runs(call, runs):
    code, out, err = call("--length", "12")
    assert (code, len(out.removesuffix("\n"))) == (0, 12)
    for words in (
        "verifying passes",
        "12 characters",
        " a verifying pass",
        runs["causal"].name,
        runs["drafter"].name,
    ):
        assert words in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--refine", "4"], "--refine does not go with --verify"),
        (["--passages", "2"], "--passages does not go with --verify"),
        (["--show-embeddings"], "--show-embeddings does not go with --verify"),
        (["--length-candidates", "2"], "--length-candidates does not go with --verify"),
    ],
)
def test_what_does_nothing_beside_it_is_refused(call, words, message):
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_runs_that_do_not_go_together_are_refused(call, trained_run, runs):
    for given, message in (
        ({"run": "causal"}, "cannot draft: it writes token by token"),
        ({"run": trained_run.path}, "cannot draft: it was trained on lines"),
        ({"verify": "drafter"}, "cannot verify: it is no causal run"),
        ({"verify": "nowhere"}, "no run at nowhere"),
        ({"verify": "teacher"}, "was trained without a teacher"),
    ):
        code, out, err = call(**given)
        assert (code, out) == (2, ""), err
        assert message in err
        assert err.count("\n") == 1


def test_another_tokenizer_is_refused(call, runs, tmp_path):
    import shutil

    from jepalm.data.tokenizer import TextTokenizer

    other = Path(shutil.copytree(runs["causal"], tmp_path / "other"))
    text = json.loads((other / "tokenizer.json").read_text())
    vocabulary = text["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.get)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (other / "tokenizer.json").write_text(json.dumps(text))
    assert TextTokenizer.load(other / "tokenizer.json").vocab_size == len(vocabulary)
    code, _, err = call(verify=other)
    assert code == 2
    assert "have different tokenizers" in err


def test_the_5_gram_of_the_training_text_drafts_too(jepalm_command, runs, data_root):
    arguments = ("abcd", "--length", "25", "--temperature", "1", "--seed", "4", "--json")
    drafted = ("--run", "5-gram", "--verify", runs["causal"])
    code, out, err = jepalm_command(
        "generate", *arguments, *drafted, cwd=data_root, JEPALM_DATA=str(data_root)
    )
    assert code == 0, err
    alone = ("--run", runs["causal"], "--precision", "fp32")
    own = json.loads(jepalm_command("generate", *arguments, *alone, cwd=data_root)[1])
    row = json.loads(out)
    assert (row["texts"], row["run"], row["step"]) == (own["texts"], "5-gram", None)
    code, _, err = jepalm_command("generate", "a", "--run", "5-gram", "--verify", "teacher", cwd=data_root)
    assert code == 2
    assert "the 5-gram has no teacher" in err


def test_bench_sets_verified_text_beside_token_by_token(jepalm_command, runs, data_root):
    arguments = ("--verify", runs["causal"], "--seconds", "0", "--data-dir", data_root)
    code, out, err = jepalm_command("bench", runs["drafter"], *arguments, cwd=data_root, COLUMNS="160")
    assert code == 0, err
    assert "by token / verified" in out
    found = json.loads((runs["drafter"] / "bench.json").read_text())["verified"]
    assert (found["verifier"], found["tokens"]) == (runs["causal"].name, 64)
    assert list(found["drafted"]) == [runs["drafter"].name, "5-gram"]
    for drafted in found["drafted"].values():
        assert drafted["same"] == 1.0
        assert 1 <= drafted["characters_per_check"] == pytest.approx(64 / drafted["checks"])
