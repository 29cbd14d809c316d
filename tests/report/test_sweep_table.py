"""A sweep's table in the terminal, as CSV, JSON and page."""

import csv
import io
import json

import pytest
from synthetic_run import shown as shown_in_terminal

from jepalm.report.analysis.sweep import MetricValues, RowFacts, sweep_table
from jepalm.report.render.csv_files import sweep_csv
from jepalm.report.render.several import sweep_document
from jepalm.report.render.terminal import view
from jepalm.report.render.write import write_sweep


@pytest.fixture
def table():
    rows = [
        RowFacts("reference", "", {0: "runs/a0", 1: "runs/a1", 2: "runs/a2"}, [], []),
        RowFacts("more <b>", "model.dim=8", {0: "runs/b0"}, ["more <b> seed 2: failed badly"], [2]),
    ]
    values = {"reference": {0: 1.0, 1: 2.0, 2: 3.0}, "more <b>": {0: 2.0, 1: 3.5}}
    r2 = MetricValues("embedding/r2", "R2", "", values, {"real text": 0.5})
    empty = MetricValues("text/copied", "covered", "share", {}, {})
    return sweep_table("lab", [0, 1, 2], rows, [r2, empty], "20 prompts of test")


def shown(table, width=80):
    return shown_in_terminal(view(sweep_document(table, drawn=False)), width)


def test_the_terminal_shows_mean_spread_and_difference(table):
    lines = [line.split() for line in shown(table).splitlines()]
    assert ["reference", "2.00", "±", "1.00", "3"] in lines
    # differences 1 and 1.5, one degree of freedom: 1.25 ± tan(0.475 pi) / 4, p = 1 - 2 / pi atan(5)
    assert ["more", "<b>", "2.75", "±", "1.06", "2", "+1.25", "[-1.93,", "+4.43]", "0.126"] in lines
    assert ["(real", "text)", "0.500"] in lines
    assert "more <b> seed 2: failed badly" in shown(table)
    assert "1 of 6 runs have no metrics" in shown(table)


def test_eighty_columns_are_enough(table):
    assert max(map(len, shown(table).splitlines())) <= 80
    assert "…" not in shown(table)


def test_few_seeds_are_told(table):
    assert "3 seeds are few (2 degrees of freedom)" in " ".join(shown(table).split())


def test_csv_holds_a_line_a_row_and_metric_with_every_seed(table):
    rows = list(csv.DictReader(io.StringIO(sweep_csv(table))))
    assert [(row["row"], row["metric"]) for row in rows] == [
        ("reference", "embedding/r2"),
        ("more <b>", "embedding/r2"),
        ("reference", "text/copied"),
        ("more <b>", "text/copied"),
    ]
    assert [float(rows[1][key]) for key in ("mean", "n", "difference", "pairs")] == [2.75, 2, 1.25, 2]
    assert [rows[1][f"seed_{seed}"] for seed in (0, 1, 2)] == ["2.0", "3.5", ""]
    assert (rows[2]["mean"], rows[2]["n"]) == ("", "0")


def test_files_lie_in_the_sweeps_folder(table, tmp_path):
    page = write_sweep(table, tmp_path)
    tree = json.loads((tmp_path / "sweep.json").read_text())
    assert tree["metrics"][0]["rows"][1]["difference"] == 1.25
    assert (tmp_path / "sweep.csv").read_text() == sweep_csv(table)
    text = page.read_text()
    assert "more &lt;b&gt;" in text
    assert "more <b>" not in text
    assert text.count("<svg") == 2  # every row, and the differences
    drawn = (tmp_path / "sweep.svg").read_text()
    assert drawn.count(">more &lt;b&gt;</text>") == 1  # one panel: the other metric has no values
    assert (tmp_path / "sweep.png").stat().st_size > 0
    for outside in ("http://", "https://", "src="):
        assert outside not in text.replace("http://www.w3.org", "")


def test_one_row_is_shown_without_a_test():
    figure = MetricValues("embedding/r2", "R2", "", {"only": {0: 1.0}}, {})
    table = sweep_table("lab", [0], [RowFacts("only", "", {}, [], [])], [figure])
    assert "difference" not in shown(table)
    assert "one seed: no spread and no test" in shown(table)
