import json

import pytest

from jepalm.escaping import for_csv, for_json, for_terminal

HOSTILE = "a\x1b[31mb\x9bc\u202ed\ud800e\x7ff\rg"


def test_nothing_in_a_text_acts_on_a_terminal():
    assert for_terminal(HOSTILE) == "a␛[31mb\ufffdc\ufffdd\ufffde␡f␍g"


def test_line_feeds_tabs_and_foreign_letters_stay():
    assert for_terminal("é\t漢\nא") == "é\t漢\nא"


def test_json_reads_back_exactly_and_has_no_control_characters():
    text = for_json({HOSTILE: [HOSTILE, "é"]})
    assert json.loads(text) == {HOSTILE: [HOSTILE, "é"]}
    assert text.isprintable()
    assert "é" in text


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-cmd", "@SUM(A1)", "\t=1", "  =1", "|x", "%x"])
def test_a_cell_that_begins_like_a_formula_is_quoted(text):
    assert for_csv(text).startswith("'")


@pytest.mark.parametrize("cell", ["-1.5", "+2e-3", -1.5, None, "a=b", "0.5"])
def test_numbers_and_plain_words_in_cells_stay(cell):
    assert for_csv(cell) == cell
