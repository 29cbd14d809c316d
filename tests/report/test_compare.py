import pytest
from synthetic_run import healthy_rows, train_row

from jepalm.config import Config
from jepalm.report.compare import compare, unique_names
from jepalm.report.read import read_run
from jepalm.report.summary import analyse


def compared(*folders):
    return compare([analyse(read_run(folder)) for folder in folders])


def config(**training):
    tree = Config().model_dump()
    tree["training"] |= training
    return tree


def test_only_settings_that_differ_are_listed(make_run):
    other = {**config(seed=3), "brand_new": 1}
    comparison = compared(make_run([], name="a"), make_run([], name="b", config=other))
    assert comparison.differences == {"training.seed": ["0", "3"], "brand_new": ["–", "1"]}
    assert not comparison.same_but_for_seed


def test_runs_that_differ_in_seed_get_mean_and_deviation(make_run):
    rows = [[train_row(25, **{"train/loss": loss})] for loss in (1.0, 3.0)]
    comparison = compared(make_run(rows[0], name="a"), make_run(rows[1], name="b", config=config(seed=1)))
    assert comparison.same_but_for_seed
    loss = next(row for row in comparison.rows if row.label == "loss (train, last row)")
    assert (loss.texts, loss.spread) == (["1.00", "3.00"], "2.00 ± 1.41")


def test_a_run_without_a_figure_has_a_dash(make_run):
    comparison = compared(make_run(healthy_rows(500), name="a"), make_run([], name="b"))
    share = next(row for row in comparison.rows if row.label.startswith("share of embedding"))
    assert share.texts[1] == "–"
    assert share.values[0] == pytest.approx(0.58, abs=0.05)


def test_runs_of_one_name_are_told_apart():
    assert unique_names(["a", "b", "a"]) == ["a", "b", "a (2)"]
