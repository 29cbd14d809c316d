"""`jepalm prepare transitions`: what it makes, says and refuses."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from jepalm.cli.prepare import prepare_app
from jepalm.data.prepared import PreparedData, Simulated, SplitName, open_prepared
from jepalm.data.worlds import world_of
from jepalm.errors import JepalmError

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JEPALM_DATA", raising=False)
    return lambda *arguments: CliRunner().invoke(prepare_app, ["transitions", *arguments])


def refused(result: Result) -> str:
    assert isinstance(result.exception, JepalmError)
    assert result.exception.exit_code == 2
    assert "\n" not in str(result.exception)
    return str(result.exception)


def logs(*rows: object) -> str:
    Path("log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "log.jsonl"


def row(k: int) -> dict[str, str]:
    return {"state": f"lamp {k}", "action": "turn up", "next_state": f"lamp {k + 1}"}


def first_of(data: PreparedData, name: SplitName = "train") -> tuple[str, ...]:
    split = data.split(name)
    spans = (split.spans(role, np.zeros(1, np.int64))[0] for role in ("source", "action", "target"))
    return tuple(data.tokenizer.decode(split.tokens(*span).tolist()) for span in spans)


def test_a_simulated_world(run: Run):
    result = run("--pairs", "100", "--seed", "4", "--noise", "2")
    assert result.exit_code == 0
    said = {line[:9].strip(): line[9:].strip() for line in result.output.splitlines()}
    assert said["source"] == "the home world, simulated (seed 4)"
    assert re.fullmatch(
        r"[\d.]+ % of the actions are illegal, [\d.]+ % change nothing but random facts "
        r"\(2 of 11 in the first state\)",
        said["drawn"],
    )
    expected = "pairs: 90 train / 5 validation / 5 test / 5 compositional / 5 longer; target length mean "
    assert said["pairs"].startswith(expected)
    assert said["next"] == "jepalm train --preset transitions"
    data = open_prepared("home", Path("data"))
    assert data.meta.task == "transitions"
    assert data.meta.has_action
    assert data.meta.request.simulated == Simulated(
        world="home", size=3, objects=2, noise=2, distractors=1, pairs=100, seed=4
    )
    world = world_of(data.meta.request.simulated)
    for name in data.meta.splits:
        source, action, target = first_of(data, name)
        state = world.parse(source)
        assert world.masked(world.text(world.effect(state, action) or state)) == world.masked(target)
    assert (said["state"], said["action"], said["becomes"]) == first_of(data)
    words = (data.tokenizer.decode([token]) for token in range(data.meta.vocab_size))
    assert max(words, key=len) == "switch"  # no word runs on from one text into the next
    assert not [path for path in Path("data").iterdir() if path.name != "home"]


def test_the_same_again_is_there_already_and_other_settings_are_refused(run: Run):
    run("--world", "grid", "--pairs", "40")
    first = open_prepared("grid", Path("data")).meta
    assert "already prepared" in run("--world", "grid", "--pairs", "40", "--size", "5").output
    assert "prepared with other settings" in refused(run("--world", "grid", "--pairs", "41"))
    run("--world", "grid", "--pairs", "40", "--force")
    assert open_prepared("grid", Path("data")).meta.content_sha256 == first.content_sha256


@pytest.mark.parametrize(
    ("arguments", "tokenizer"),
    [
        (("--world", "home"), "word"),
        (("--world", "grid"), "char"),
        (("--world", "home", "--tokenizer", "bpe:290"), "bpe"),
        (("--world", "home", "--alphabet", "data"), "char"),
    ],
)
def test_facts_are_words_and_cells_of_a_map_characters(run: Run, arguments: tuple[str, ...], tokenizer: str):
    run(*arguments, "--pairs", "200", "--name", "made")
    data = open_prepared("made", Path("data"))
    assert data.meta.tokenizer.partition(":")[0] == tokenizer
    pairs = [data.split("train").pair(place) for place in range(180)]
    aligned = all(len(source) == len(target) for source, target in pairs)
    assert aligned == (tokenizer != "bpe")  # byte pairs of few merges are not as wide as ever


def test_a_map_is_shown_under_its_label(run: Run):
    shown = run("--world", "grid", "--pairs", "30", "--noise", "0", "--distractors", "0").output
    assert re.search(r"state +bag --?\n {10}#######\n( {10}#.{5}#\n){5} {10}#######\naction ", shown)


def test_own_logs(run: Run):
    result = run("--from", logs(*map(row, range(20))), "--split", "80/10/10")
    assert "given transitions (log.jsonl)" in result.output
    assert "pairs: 16 train / 2 validation / 2 test;" in result.output
    data = open_prepared("log", Path("data"))
    assert (data.meta.task, data.meta.request.simulated) == ("transitions", None)
    assert first_of(data) == ("lamp 0", "turn up", "lamp 1")
    assert data.tokenizer.decode(data.split("test").pair(1)[1]) == "lamp 20"
    assert "already prepared" in run("--from", "log.jsonl", "--split", "80/10/10").output


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"state": "a", "action": "b"}, "line 3: has no next_state"),
        ({"source": "a", "target": "b"}, "line 3: has no state"),
        ({"state": "a", "next_state": "b"}, "line 3: has no action"),
        ({"state": "a", "action": "", "next_state": "b"}, "line 3: action is empty"),
        ({"state": {"lamp": 1}, "action": "c", "next_state": "b"}, "line 3: state is not a text"),
        (["a", "b", "c"], "line 3: not a JSON object"),
    ],
)
def test_a_broken_row_is_named_by_line(run: Run, broken: object, why: str):
    file = logs(row(0), row(1), broken, *map(row, range(3, 9)))
    assert f"log.jsonl, {why}" in refused(run("--from", file))
    assert not Path("data").exists()
    assert "1 broken row\n" in run("--from", file, "--skip-bad").output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--from", "log.jsonl", "--world", "grid"), "--world is for a simulated world"),
        (("--from", "log.jsonl", "--noise", "0"), "--noise is for a simulated world"),
        (("--from", "none.jsonl"), "no such file: none.jsonl"),
        (("--skip-bad",), "--skip-bad is for your own logs"),
        (("--licence", "MIT"), "--licence is for your own logs"),
        (("--world", "grid", "--size", "3"), "the grid world has no 3 cells a side (4 to 9)"),
        (("--objects", "9"), "the home world has no 9 objects (1 to 8)"),
        (("--noise", "5"), "the home world has no 5 random facts (0 to 4)"),
        (("--split", "100/0/0"), "split 100/0/0 is out of range"),
        (("--name", "../up"), "cannot name prepared data '../up'"),
        (("--data-dir", "log.jsonl"), "log.jsonl is not a folder"),
    ],
)
def test_bad_input_is_one_clear_line(run: Run, arguments: tuple[str, ...], why: str):
    logs(row(0))
    assert why in refused(run(*arguments))
    assert not Path("data").exists()


@pytest.mark.parametrize("arguments", [("--world", "zoo"), ("--pairs", "2"), ("--seed", "-1")])
def test_unknown_words_are_usage_errors(run: Run, arguments: tuple[str, ...]):
    assert run(*arguments).exit_code == 2
