"""The example of prepared data is held out and of its alphabet."""

import json
import re

import pytest

from jepalm.data.example import Example, example_of, with_gap
from jepalm.data.job import Job
from jepalm.data.pairs.preparing import prepare_pairs
from jepalm.data.pairs.reading import PairFiles
from jepalm.data.prepared import Origin, Request
from jepalm.data.text.preparing import prepare_text
from jepalm.data.text.reading import RawText
from jepalm.data.tokenizer import byte_tokenizer


def prepared(root, corpus="text", lines="", rows=(), **request):
    asked = Request(**{"pairing": "lines", "tokenizer": "char", "alphabet": "data", **request})
    job = Job(root, "mine", corpus, Origin(source="given", where=[]), "none", asked)
    if not rows:
        return prepare_text(job, RawText(content=lines.encode())).data
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return prepare_pairs(job, PairFiles(root / "rows.jsonl")).data


RUSSIAN = "".join(f"Мельница номер {number} стоит у реки.\n" for number in range(40))


def test_lines_give_a_held_out_line_of_their_own_script(tmp_path):
    data = prepared(tmp_path, lines=RUSSIAN)
    assert example_of(data) == Example("Мельница номер 38 стоит у реки.")
    assert data.tokenizer.unknown_characters(example_of(data).text) == []


def test_windows_give_some_words_and_spans_a_gap(tmp_path):
    assert example_of(prepared(tmp_path, lines=RUSSIAN, pairing="windows")).text.startswith("Мельница номер")
    (tmp_path / "spans").mkdir()
    text = example_of(prepared(tmp_path / "spans", lines=RUSSIAN, pairing="spans")).text
    assert re.fullmatch(r"[\w .]+ _+ [\w .]+|[\w ]+ _+\.", text)
    assert set(text) <= set(RUSSIAN) | {"_"}


def test_shakespeare_has_the_well_known_prompt_where_its_alphabet_does(tmp_path):
    assert example_of(prepared(tmp_path, "shakespeare", "To be or not\n" * 20)) == Example("To be")
    (tmp_path / "upper").mkdir()
    assert example_of(prepared(tmp_path / "upper", "shakespeare", "AB CD\n" * 20)) == Example("AB CD")


@pytest.mark.parametrize("n_lines", [1, 7])
def test_states_come_whole_with_their_action(tmp_path, n_lines):
    state = "\n".join(["lamp off"] * n_lines)
    rows = [{"source": state, "target": "lamp on", "action": "press"}] * 4
    assert example_of(prepared(tmp_path, rows=rows, pairing="pairs")) == Example(state, "press")


def test_a_long_source_gives_its_first_words(tmp_path):
    rows = [{"source": "one two three four five " * 9, "target": "b"}] * 4
    assert example_of(prepared(tmp_path, rows=rows, pairing="pairs")).text == "one two three four five"


def test_a_gap_has_an_underscore_a_token():
    assert with_gap("in der Mühle am Bach", byte_tokenizer()) == "in der ______ am Bach"
    assert with_gap("alone", byte_tokenizer()) == ""
