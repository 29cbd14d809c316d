"""Rows of published tasks as pairs, and what is refused because it could not be scored."""

from collections import Counter

import pytest

from jepalm.data.pairs.reading import PairFiles
from jepalm.data.pairs.records import BadRowError, PairRecord
from jepalm.data.pairs.tasks import database_of, format_of

PUBLISHED = [
    ("gsm8k", {"question": "2 and 3?", "answer": "5.\n#### 5"}, PairRecord("2 and 3?", "5.\n#### 5")),
    (
        "spider",
        {"db_id": "shop", "question": "How many?", "query": "SELECT 1", "query_toks": ["SELECT", "1"]},
        PairRecord("For db_id:[shop]\n\nHow many?", "SELECT 1"),
    ),
    ("nq-open", {"question": "who", "answer": ["Ann", " Bo "]}, PairRecord("who", "Ann; Bo")),
]
FORMS = [
    {"source": "For db_id:[shop]\n?", "target": "VALUES (1) -- #### 1"},
    {
        "messages": [
            {"role": "system", "content": "Do."},
            {"role": "user", "content": "For db_id:[shop]\n?"},
            {"role": "assistant", "content": "VALUES (1) -- #### 1"},
        ]
    },
]


def pairs(task, row):
    return format_of(task).pairs(row, Counter())


@pytest.mark.parametrize(("task", "row", "pair"), PUBLISHED, ids=[task for task, _, _ in PUBLISHED])
def test_a_published_row_becomes_a_pair(task, row, pair):
    assert pairs(task, row) == [pair]


@pytest.mark.parametrize("row", FORMS)
@pytest.mark.parametrize("task", ["text", "gsm8k", "spider", "nq-open"])
def test_every_task_takes_pairs_and_chats(task, row):
    assert pairs(task, row) == [PairRecord("For db_id:[shop]\n?", "VALUES (1) -- #### 1")]


@pytest.mark.parametrize(
    ("task", "row", "why"),
    [
        ("gsm8k", {"question": "q", "answer": "5"}, "target has no final answer after ####"),
        ("gsm8k", {"question": "q", "answer": "#### "}, "target has no final answer after ####"),
        ("gsm8k", {"question": "q"}, "has no answer"),
        ("gsm8k", {"other": "q"}, "has no source"),
        ("spider", {"db_id": 3, "question": "q", "query": "SELECT 1"}, "db_id is not a text"),
        ("spider", {"source": "q", "target": "SELECT 1"}, "source names no database"),
        ("nq-open", {"question": "q", "answer": "Ann"}, "answer is not a list of texts"),
        ("nq-open", {"question": "q", "answer": []}, "answer is not a list of texts"),
        ("nq-open", {"question": "q", "answer": [" "]}, "answer is empty"),
        ("regex", {"source": "s", "target": "(a"}, "target is no regular expression"),
    ],
)
def test_a_row_that_could_not_be_scored_is_refused(task, row, why):
    with pytest.raises(BadRowError, match=why):
        pairs(task, row)


def test_a_file_names_the_line_of_a_bad_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "a", "answer": ["b"]}\n{"question": "a", "answer": "b"}\n')
    with pytest.raises(BadRowError, match=r"line 2: answer is not a list of texts"):
        list(PairFiles(path, pairs_of=format_of("nq-open").pairs).read())


@pytest.mark.parametrize(
    ("source", "name"),
    [("For db_id:[shop_1]\n\nq", "shop_1"), ("q For db_id:[shop]\n", None), ("For db_id:[a\nb]\n", None)],
)
def test_the_database_stands_on_the_first_line(source, name):
    assert database_of(source) == name
