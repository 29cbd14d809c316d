"""SQL answers by what they find: order, multiplicity, and nothing that writes, hangs or says nothing."""

import sqlite3
from contextlib import closing

import pytest

from jepalm.data.pairs.queries import QueryError, execute, orders
from jepalm.errors import UsageError
from jepalm.evaluation.answers.tasks import score_of
from jepalm.evaluation.answers.tasks.shares import Answered
from jepalm.evaluation.answers.tasks.spider import Databases

SOURCE = "For db_id:[shop]\n\nWhich?"
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT count(*) FROM n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("databases")
    (root / "shop").mkdir()
    with closing(sqlite3.connect(root / "shop" / "shop.sqlite")) as database:
        database.execute("CREATE TABLE sold (item TEXT, n REAL)")
        database.executemany("INSERT INTO sold VALUES (?, ?)", [("b", 1), ("a", 2), ("a", 0.1), ("c", 0.2)])
        database.commit()
    return root


def shares(folder, gold, written):
    answered = Answered([SOURCE] * len(gold), gold, written)
    return {share.name: share.above.tolist() for share in score_of("spider", databases=folder)(answered)}


@pytest.mark.parametrize(
    ("gold", "written", "right"),
    [
        ("SELECT item FROM sold", "SELECT item FROM sold ORDER BY item;", True),
        ("SELECT item FROM sold", "SELECT DISTINCT item FROM sold", False),
        ("SELECT item FROM sold ORDER BY item", "SELECT item FROM sold", False),
        ("SELECT item FROM sold ORDER BY item", "SELECT s.item FROM sold s ORDER BY 1", True),
        ("SELECT item FROM sold WHERE n = (SELECT n FROM sold ORDER BY n LIMIT 1)", "SELECT 'a'", True),
        ("SELECT count(*) FROM sold", "SELECT 4.0", True),
        ("SELECT item, n FROM sold", "SELECT n, item FROM sold", False),
        ("SELECT 0.1 + 0.2", "SELECT 0.3", True),
        ("SELECT 0.1 + 0.2", "SELECT 0.3001", False),
    ],
)
def test_the_same_rows_are_right(folder, gold, written, right):
    assert shares(folder, [gold], [written])["execution"] == [right]


def test_an_answer_that_says_nothing_is_wrong_where_gold_finds_nothing(folder):
    gold = "SELECT item FROM sold WHERE n > 99"
    written = [
        "",
        "-- nothing",
        ";",
        "SELECT item FROM sold WHERE n > 9",
        "SELECT nothing",
        "SELECT item FROM",
    ]
    found = shares(folder, [gold] * 6, written)
    assert found["execution"] == [0, 0, 0, 1, 0, 0]
    assert found["malformed"] == [1, 1, 1, 0, 1, 1]
    assert found["execution_nonempty"] == [0] * 6
    assert shares(folder, ["SELECT 1"], ["SELECT 1"])["execution_nonempty"] == [1]


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE sold",
        "INSERT INTO sold VALUES ('d', 1)",
        "CREATE TEMP TABLE mine (x)",
        "ATTACH 'other.sqlite' AS other",
        "PRAGMA user_version = 4",
        "VACUUM INTO 'copy.sqlite'",
        "SELECT 1; SELECT 2",
        "SELECT '\0'",
        "SELECT \ud800",
        "SELECT zeroblob(1000000000)",
    ],
)
def test_only_one_query_that_reads_is_run(folder, query):
    path = folder / "shop" / "shop.sqlite"
    before = path.read_bytes()
    with pytest.raises(QueryError):
        execute(path, query, 10)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["shop.sqlite"]


def test_an_endless_query_is_stopped_and_tried_once(folder):
    ticks = iter(range(10_000))
    databases = Databases(folder, seconds=5, clock=lambda: next(ticks))
    for _ in range(2):
        with pytest.raises(QueryError, match="interrupted"):
            databases.find("shop", ENDLESS)
    assert next(ticks) < 10


def test_a_huge_result_is_refused(folder, monkeypatch):
    monkeypatch.setattr("jepalm.data.pairs.queries.MOST_ROWS", 3)
    with pytest.raises(QueryError, match="more than 3 rows"):
        execute(folder / "shop" / "shop.sqlite", "SELECT * FROM sold", 10)


def test_gold_that_fails_is_an_error(folder):
    with pytest.raises(UsageError, match=r"the gold query 'SELECT x' fails in shop: no such column: x"):
        shares(folder, ["SELECT x"], ["SELECT 1"])


@pytest.mark.parametrize("name", ["shelf", "../shop/shop", "."])
def test_a_missing_database_is_an_error(folder, name):
    with pytest.raises(UsageError, match="no database"):
        Databases(folder / "shop").find(name, "SELECT 1")


def test_a_file_by_itself_is_found_too(folder):
    assert Databases(folder / "shop").find("shop", "SELECT 5") == [(5,)]


def test_without_databases_the_text_is_compared():
    score = score_of("spider")
    found = score(Answered([SOURCE] * 2, ["SELECT 1", "SELECT 2"], ["SELECT 1", "SELECT 3"]))
    assert [(share.name, share.above.tolist()) for share in found] == [("exact_match", [1, 0])]


@pytest.mark.parametrize(
    ("query", "ordered"),
    [
        ("SELECT a FROM b ORDER  BY c", True),
        ("SELECT a FROM (SELECT a FROM b ORDER BY c)", False),
        ("SELECT ' order by ' FROM b -- order by", False),
        ("(SELECT a) ORDER\nBY a", True),
    ],
)
def test_only_the_outer_order_counts(query, ordered):
    assert orders(query) is ordered
