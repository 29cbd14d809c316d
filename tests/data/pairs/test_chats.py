"""Chats and instructions as people have them."""

from collections import Counter

import pytest

from jepalm.data.pairs.chats import in_words
from jepalm.data.pairs.reading import pairs_of
from jepalm.data.pairs.records import BadRowError, PairRecord


def turns(*given):
    return {"messages": [{"role": role, "content": content} for role, content in given]}


def test_a_turn_without_text_is_left_out_and_counted():
    left_out: Counter[str] = Counter()
    row = turns(("user", "how far?"), ("assistant", None), ("tool", "0"), ("assistant", "0 km"))
    assert pairs_of(row, left_out) == [PairRecord("how far?", "0 km")]
    assert +left_out == {"turns without text": 1, "tool turns": 1}


def test_text_parts_are_joined_and_others_named():
    left_out: Counter[str] = Counter()
    parts = [{"type": "text", "text": "what "}, {"type": "image_url"}, {"type": "text", "text": "is it?"}]
    assert pairs_of(turns(("user", parts), ("assistant", "a cat")), left_out)[0].source == "what is it?"
    assert +left_out == {"image_url parts": 1}


def test_the_system_stands_in_front_on_request():
    row = turns(("system", "Be brief."), ("user", "q"), ("assistant", "a"))
    assert pairs_of(row, Counter(), system=True) == [PairRecord("Be brief.\n\nq", "a")]


def test_sharegpt_and_alpaca_rows_are_read():
    chat = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    assert pairs_of(chat, Counter()) == [PairRecord("q", "a")]
    row = {"instruction": "Add one.", "input": "1", "output": "2"}
    assert pairs_of(row, Counter()) == [PairRecord("Add one.\n\n1", "2")]


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": {"value": "what is it?", "annotations": []}}],
        [{"type": "text", "content": "what is it?"}],
        [[{"type": "text", "text": "what "}], [{"type": "text", "text": "is it?"}]],
        {"type": "text", "text": "what is it?"},
        {"content_type": "text", "parts": ["what is it?"]},
    ],
)
def test_texts_are_found_however_parts_are_nested(content):
    left_out: Counter[str] = Counter()
    assert pairs_of(turns(("user", content), ("assistant", "a cat")), left_out)[0].source == "what is it?"
    assert +left_out == {}


def test_parts_nested_without_end_are_left_out():
    deep: object = "q"
    for _ in range(500):
        deep = [deep]
    left_out: Counter[str] = Counter()
    assert pairs_of(turns(("user", deep), ("assistant", "a")), left_out) == []
    assert left_out["parts without text"] == 1


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"speaker": "human", "text": "q"}, {"speaker": "gpt", "text": "a"}]},
        {"conversation": [{"human": "q", "assistant": "a"}]},
        {"messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'},
        {"messages": None, "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"messages": None, "instruction": None, "source": "q", "target": "a"},
        {"messages": [], "instruction": "q", "response": "a", "context": ""},
        {"instruction": "q", "input": None, "output": "a", "system": None, "history": []},
        {"id": "seed", "instruction": "q", "instances": [{"input": "", "output": "a"}]},
    ],
)
def test_forms_of_chats_and_columns_that_are_empty_in_a_table(row):
    assert pairs_of(row, Counter()) == [PairRecord("q", "a")]


def test_a_fault_goes_by_the_name_that_the_row_has_for_it():
    with pytest.raises(BadRowError, match="output is not a text"):
        pairs_of({"instruction": "q", "output": ["a"]}, Counter())
    with pytest.raises(BadRowError, match="its turns are of assistant, prompt"):
        pairs_of(turns(("prompt", "q"), ("assistant", "a")), Counter())


def test_what_was_left_out_is_told_in_the_right_number():
    assert in_words({"tool turns": 1, "turns without text": 2}) == "1 tool turn, 2 turns without text"


def test_many_kinds_are_told_short():
    words = in_words({f"role-{k} turns": 1 for k in range(30)})
    assert words.endswith("1 role-7 turn, 22 other kinds")
