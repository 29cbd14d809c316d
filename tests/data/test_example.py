"""The example of prepared data is held out and of its alphabet."""

import json
import re

import pytest

from jepalm.data.example import Example, example_of, with_gap
from jepalm.data.tokenizer import byte_tokenizer

RUSSIAN = "".join(f"Мельница номер {number} стоит у реки.\n" for number in range(40))


def test_lines_give_a_held_out_line_of_their_own_script(make):
    data = make(RUSSIAN, alphabet="data").data
    assert example_of(data) == Example("Мельница номер 38 стоит у реки.")
    assert data.tokenizer.unknown_characters(example_of(data).text) == []


def test_windows_give_some_words_and_spans_a_gap(make):
    windows, spans = (
        example_of(make(RUSSIAN, pairing, pairing=pairing, alphabet="data").data).text
        for pairing in ("windows", "spans")
    )
    assert windows.startswith("Мельница номер")
    assert re.fullmatch(r"[\w .]+ _+ [\w .]+|[\w ]+ _+\.", spans)
    assert set(spans) <= set(RUSSIAN) | {"_"}


@pytest.mark.parametrize(("line", "prompt"), [("To be or not", "To be"), ("AB CD", "AB CD")])
def test_shakespeare_has_the_well_known_prompt_where_its_alphabet_does(make, line, prompt):
    data = make(f"{line}\n" * 20, corpus="shakespeare", alphabet="data").data
    assert example_of(data) == Example(prompt)


@pytest.mark.parametrize("n_lines", [1, 7])
def test_states_come_whole_with_their_action(make_rows, n_lines):
    state = "\n".join(["lamp off"] * n_lines)
    row = json.dumps({"source": state, "target": "lamp on", "action": "press"})
    assert example_of(make_rows([row] * 4)) == Example(state, "press")


def test_a_long_source_gives_its_first_words(make_rows):
    row = json.dumps({"source": "one two three four five " * 9, "target": "b"})
    assert example_of(make_rows([row] * 4)).text == "one two three four five"


def test_a_gap_has_an_underscore_a_token():
    assert with_gap("in der Mühle am Bach", byte_tokenizer()) == "in der ______ am Bach"
    assert with_gap("alone", byte_tokenizer()) == ""
