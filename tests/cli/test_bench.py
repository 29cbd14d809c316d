"""`jepalm bench`: the table, the file, the JSON, and what it refuses."""

import json
import math
import shutil
from pathlib import Path

import pytest

from jepalm.run import RunFolder


@pytest.fixture(scope="module")
def run(trained_run, tmp_path_factory):
    """A copy to write to."""
    folder = tmp_path_factory.mktemp("bench") / trained_run.name
    return RunFolder(Path(shutil.copytree(trained_run.path, folder, symlinks=True)))


@pytest.fixture(scope="module")
def bench(jepalm_command, data_root, run):
    def call(*words, of=run, data=data_root):
        arguments = ("bench", of.path, "--data-dir", data, "--seconds", 0, *words)
        return jepalm_command(*arguments, cwd=run.path.parent, COLUMNS="160")

    return call


@pytest.fixture(scope="module")
def tree(bench, run):
    code, out, err = bench("--json")
    assert (code, err) == (0, "")
    return json.loads(out)


@pytest.fixture(scope="module")
def causal_run(tmp_path_factory, train_tiny):
    changed = {"model__family": "causal", "model__causal__n_layers": 2, "model__causal__context_len": 25}
    own = {"model__encoder__n_layers": 4, "model__predictor__n_layers": 4, "model__decoder__n_layers": 4}
    return train_tiny(tmp_path_factory.mktemp("causal"), **own, **changed)


def test_the_file_holds_what_json_printed(tree, run):
    path = run.path / "bench.json"
    assert json.loads(path.read_text()) == {key: value for key, value in tree.items() if key != "file"}
    assert tree["file"] == str(path)
    assert not list(run.path.glob(".bench*"))


def test_the_json_says_what_was_measured_and_where(tree, run):
    assert (tree["run"], tree["step"], tree["seconds"]) == (run.name, 8, 0)
    assert tree["hardware"] | {"name": ""} == {
        "device": "cpu",
        "name": "",
        "threads": 1,
        "precision": "fp32",
        "compiled": False,
    }
    model, baseline = (tree["generation"][column] for column in ("model", "baseline"))
    assert (model["name"], model["family"], model["nfe"]) == (run.name, "jepalm", 6)
    assert (baseline["name"], baseline["family"], baseline["nfe"]) == ("untrained", "causal", 64)
    assert (model["tokens"], model["characters_per_token"]) == (64, 1)


def test_ratios_and_rates_follow_from_the_seconds(tree):
    for batch in tree["generation"]["batches"]:
        model, baseline = batch["rounds"]["model"], batch["rounds"]["baseline"]
        ratios = sorted(b / a for a, b in zip(model, baseline, strict=True))
        assert len(ratios) == batch["ratio"]["n"] == 3
        assert batch["ratio"]["median"] == pytest.approx(ratios[1])
        for column in ("model", "baseline"):
            middle = batch["seconds"][column]["median"]
            assert middle == sorted(batch["rounds"][column])[1]
            assert batch["characters_per_s"][column] == pytest.approx(64 * batch["batch"] / middle)
    training = tree["training"]
    assert training["flops_per_s"] == pytest.approx(training["flops"] / training["seconds"]["median"])
    assert training["share_of_peak"] == pytest.approx(
        training["flops_per_s"] / training["peak"]["flops_per_s"]
    )
    assert all(map(math.isfinite, training["parts"].values()))


def test_the_table_names_both_models_and_every_figure(bench, run):
    code, out, _ = bench()
    assert code == 0
    assert "baseline  untrained, " in out
    assert "one pass a token, keys and values kept" in out
    unwrapped = " ".join(out.split())
    for words in (
        "NFE",
        "latency, batch 1",
        "latency, batch 64",
        "characters a second",
        "training step, batch 4",
        "backward",
        "FLOP/s",
        "a matrix product here",
        "top operators",
    ):
        assert words in unwrapped
    assert out.rstrip().endswith(f"file      {run.path / 'bench.json'}")


def test_a_baseline_is_another_run(bench, causal_run):
    code, out, err = bench("--baseline", causal_run.path, "--json")
    assert code == 0, err
    found = json.loads(out)["generation"]["baseline"]
    assert (found["name"], found["layers"], found["nfe"]) == (causal_run.name, "2 layers", 64)


def test_a_causal_run_is_set_beside_an_untrained_jepalm(bench, causal_run):
    code, out, err = bench("--json", of=causal_run)
    assert code == 0, err
    found = json.loads(out)["generation"]
    assert (found["model"]["nfe"], found["baseline"]["nfe"]) == (64, 6)
    assert found["baseline"]["family"] == "jepalm"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--baseline", "nowhere"], "no run at nowhere"),
        (["--checkpoint", "7"], "has no checkpoint 7"),
        (["--device", "tpu"], "hardware.device='tpu'"),
        (["--precision", "fp8"], "hardware.precision='fp8'"),
        (["--threads", "0"], "hardware.threads=0"),
        (["--data-dir", "nowhere"], "no prepared data lines under nowhere"),
    ],
)
def test_bad_input_is_one_line(bench, words, message):
    code, out, err = bench(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_missing_run_names_what_makes_one(jepalm_command, tmp_path):
    code, _, err = jepalm_command("bench", cwd=tmp_path)
    assert code == 2
    assert err == "error: no run at runs/latest (jepalm train makes one)\n"
