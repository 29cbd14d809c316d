"""Commands are shown as a shell takes them."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepalm.shell import command, named_data_dir, quoted, training


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cc", "Cs"])))
def test_a_quoted_word_is_read_as_it_was(word: str):
    assert shlex.split(quoted(word)) == [word]


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("runs/latest", "runs/latest"),
        ("To be", '"To be"'),
        ("it's $5", """'it'"'"'s $5'"""),
        ("a\nb's", "$'a\\nb\\'s'"),
        ("", '""'),
    ],
)
def test_words_are_quoted_as_people_do(word: str, shown: str):
    assert quoted(word) == shown


def test_options_stand_in_front_of_a_word_that_begins_with_a_dash():
    assert (
        command("generate", "-1", run="my runs/a", action=None) == 'jepalm generate --run "my runs/a" -- -1'
    )
    assert command("runs", prune=True, run_dir=None) == "jepalm runs --prune"


def test_a_data_folder_is_named_only_where_it_is_not_the_usual_one(tmp_path, monkeypatch):
    monkeypatch.delenv("JEPALM_DATA", raising=False)
    usual, elsewhere = tmp_path.__class__("data/play"), tmp_path / "play"
    assert named_data_dir(usual, "play") is None
    assert named_data_dir(elsewhere, "play") == tmp_path
    assert named_data_dir(elsewhere, str(elsewhere)) is None
    monkeypatch.setenv("JEPALM_DATA", str(tmp_path))
    assert named_data_dir(elsewhere, "play") is None


def test_a_training_names_data_that_are_not_the_presets_own(tmp_path):
    assert training("nano", "shakespeare") == "jepalm train --preset nano"
    expected = f"jepalm train model.dim=8 --data play --run-dir {tmp_path}"
    assert training(None, "play", "model.dim=8", run_dir=tmp_path) == expected
