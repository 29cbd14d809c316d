"""Chats and instructions as people have them."""

from collections import Counter

from jepalm.data.pairs.reading import pairs_of
from jepalm.data.pairs.records import PairRecord


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
