"""`jepalm presets`: the list, one resolved, and an unknown name."""

import json

import pytest
import yaml

from jepalm.config import dump, preset_names, resolve


@pytest.fixture
def call(tmp_path, jepalm_command):
    return lambda *words: jepalm_command("presets", *words, cwd=tmp_path, COLUMNS="120")


def test_the_list_has_each_preset_with_size_data_length_and_purpose(call):
    code, out, _ = call()
    assert code == 0
    head, *lines = out.splitlines()
    assert head.split() == ["preset", "size", "data", "time", "here"]
    assert [line.split()[0] for line in lines[:-1:2]] == preset_names()
    at = next(number for number, line in enumerate(lines) if line.startswith("shakespeare "))
    assert lines[at].split() == ["shakespeare", "10.10", "M", "shakespeare", "25,000", "steps"]
    assert lines[at + 1].strip().startswith("the reference: ")


def test_the_time_here_is_that_of_a_finished_run_of_the_same_model(call, tmp_path, train_tiny):
    config = resolve("nano")
    run = train_tiny(tmp_path / "runs", training__steps=2)
    (run.path / "config.yaml").write_text(dump(config))
    run.update_manifest(seconds=3.0, step=2)
    found = {entry["name"]: entry for entry in json.loads(call("--json")[1])["presets"]}
    assert found["nano"]["seconds"] == 2500 * 1.5
    assert found["nano"]["parameters"] == 341_633
    assert found["shakespeare"]["seconds"] is None
    assert "2,500 steps, about 62 min" in call()[1]
    (run.path / "config.yaml").write_text(dump(resolve("nano", overrides=["model.dim=32"])))
    assert json.loads(call("--json")[1])["presets"][1]["seconds"] is None


def test_one_preset_is_printed_resolved(call):
    code, out, _ = call("nano-spans")
    assert code == 0
    assert out == dump(resolve("nano-spans"))
    assert json.loads(call("nano-spans", "--json")[1]) == yaml.safe_load(out)


def test_an_unknown_preset_is_one_line_with_the_nearest(call):
    code, out, err = call("nanno")
    assert (code, out) == (2, "")
    assert err == "error: unknown preset nanno (did you mean nano? jepalm presets lists all)\n"
