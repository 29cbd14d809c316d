"""The frontier of an evaluation: points, table, figure, and the file that a README shows."""

import io
import re
import xml.etree.ElementTree as ElementTree

import pytest
from synthetic_run import evaluation, shown, train_row

from jepalm.evaluation.rows import Evaluation
from jepalm.report.analysis.evaluation import texts
from jepalm.report.analysis.frontier import points, points_of_runs, table
from jepalm.report.comparison import compare
from jepalm.report.plots.draw import svg_file
from jepalm.report.plots.frontier import frontier
from jepalm.report.read import read_run
from jepalm.report.render.run import evaluation_table, run_document
from jepalm.report.render.several import comparison_document
from jepalm.report.render.terminal import blocks_view
from jepalm.report.render.write import write
from jepalm.report.summary import analyse

GAPS = {"model": 2.5, "passes_4": 1.5, "verified": 0.01, "real": 0.0, "ngram": -0.27, "baseline": 0.01}
PASSES = {"model": 1.0, "passes_4": 4.0, "verified": 6.4, "ngram": 16.0, "baseline": 16.0, "baseline_2": 2.0}
LATENCIES = {name: 3 * value + 2 for name, value in PASSES.items()}


def costly(**extra):
    """An evaluation with two baselines, more passes and a verifier."""
    blank = {"figure": "", "unit": "", "interval": None, "controls": {}}
    rows = [
        {"name": "scorer/gap", **blank, "figure": "gap", "unit": "nats/char", **GAPS, "baseline_2": -0.4},
        {"name": "text/valid_words", **blank, "figure": "valid words", "model": 0.5, "real": 0.94},
        {"name": "cost/passes", **blank, "figure": "passes", **PASSES},
        {"name": "cost/latency", **blank, "figure": "time", "unit": "ms", **LATENCIES},
        {"name": "cost/characters_per_s", **blank, "figure": "speed", **PASSES},
    ]
    day = "2026-11-22_0849"
    named = {"baseline": f"{day}-shakespeare-ar", "further": ["other"], "verified": f"{day}-ar"}
    return evaluation(**{"rows": rows, "passes": [4], "order": "random", **named, **extra})


def test_every_way_to_write_is_a_point_with_its_name():
    found = {point.column: point for point in points(Evaluation.from_json(costly()))}
    names = {column: point.name for column, point in found.items()}
    assert names == {
        "model": "one pass",
        "passes_4": "4 passes",
        "verified": "ar, verified",
        "ngram": "5-gram",
        "baseline": "shakespeare-ar",
        "baseline_2": "other",
    }
    assert found["passes_4"].values["scorer/gap"] == 1.5
    assert found["baseline_2"].values == {
        "cost/passes": 2.0,
        "cost/latency": 8.0,
        "cost/characters_per_s": 2.0,
        "scorer/gap": -0.4,
    }


def test_texts_of_training_chunks_are_marked_in_the_figure(make_run):
    measured = costly()
    measured["rows"][0]["controls"] = {"training chunks of 8": 1.63}
    record = read_run(make_run([train_row(25)], evaluations={"validation": measured}))
    assert "training chunks of 8" in frontier({"run": record}).svg


def test_an_evaluation_without_costs_has_none():
    tree = evaluation()
    tree["rows"] = [row for row in tree["rows"] if not row["name"].startswith("cost/")]
    measured = Evaluation.from_json(tree)
    assert points(measured) == []
    assert table({"this run": measured})[1] == []


def test_texts_of_shorter_passages_are_a_line_of_their_own(make_run):
    measured = costly(kept=[0.5, 2, 4], length=64)
    values = {"scorer/gap": (0.8, 2.1, 0.2), "cost/passes": (32, 16, 34), "cost/latency": (98, 50, 120)}
    for row in measured["rows"]:
        row |= dict(zip(("kept_2", "kept_4", "sure_0.5"), values.get(row["name"], (0.5,) * 3), strict=True))
    found = points(Evaluation.from_json(measured))
    assert [(one.column, one.name) for one in found if one.column.startswith(("kept", "sure"))] == [
        ("kept_4", "4 kept of a passage"),
        ("kept_2", "2 kept of a passage"),
        ("sure_0.5", "kept while p ≥ 0.5"),
    ]
    plot = frontier({"this run": read_run(make_run([train_row(25)], evaluations={"validation": measured}))})
    kinds = ("refined", "fewer kept of a passage", "kept by prefix probability")
    for name in (f"this run, {kind}" for kind in kinds):
        assert plot.svg.count(f">{name}</text>") == 1, name


def test_runs_that_were_evaluated_alike_share_one_frontier(make_run, tmp_path):
    first = costly(length=64)
    other = costly(length=64, passes=[], order=None, kept=[2], baseline=None, further=[], run="other")
    for row in other["rows"]:
        row["kept_2"] = row.pop("passes_4", None)
    otherwise = costly(length=32)
    records = [
        read_run(make_run([train_row(25), train_row(50)], evaluations={"validation": measured}, name=name))
        for measured, name in ((first, "one"), (other, "other"), (otherwise, "third"))
    ]
    measured = {record.name: record.evaluations["validation"] for record in records}
    assert [point.name for point in points_of_runs(measured)] == [
        "one, one pass a passage",
        "one, 4 passes",
        "one drafts, ar, verified",
        "5-gram",
        "shakespeare-ar",
        "other, one pass a passage",
        "other, 2 kept of a passage",
        "other drafts, ar, verified",
    ]
    write(comparison_document(compare([analyse(record) for record in records])), tmp_path)
    drawn = (tmp_path / "plots" / "frontier.svg").read_text()
    for name in ("one, refined", "other, fewer kept of a passage", "5-gram", "other drafts, ar, verified"):
        assert drawn.count(f">{name}</text>") == 1, name
    page, markdown = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert "| other, 2 kept of a passage | 4.00 | 14.0 |" in markdown
    assert "What each way to write costs, beside its quality, on validation" in page


def test_the_table_ends_with_real_text():
    header, rows = table({"this run": Evaluation.from_json(costly())})
    assert header == [
        *("", "forward passes, passes/text", "time of a text by itself, ms", "64 texts at once, chars/s"),
        *("NLL minus that of real text, nats/char", "valid words"),
    ]
    assert rows[0] == ["one pass", "1.00", "5.00", "1.00", "2.50", "0.500"]
    assert rows[-1] == ["real text", "", "", "", "0", "0.940"]


@pytest.fixture
def record(make_run):
    return read_run(make_run([train_row(25), train_row(50)], evaluations={"validation": costly()}))


def test_the_plot_names_every_way_once(record):
    plot = frontier({"this run": record})
    assert plot.name == "frontier"
    for name in ("this run, refined", "ar, verified", "5-gram", "shakespeare-ar", "other", "real text"):
        assert plot.svg.count(f">{name}</text>") == 1, name
    assert "forward passes a text (log)" in plot.svg
    assert "milliseconds a text, by itself (log)" in plot.svg


def test_a_gap_that_is_not_finite_is_left_out_and_no_other(make_run):
    measured = costly()
    measured["rows"][0]["baseline_2"] = None
    plot = frontier({"this run": read_run(make_run([train_row(25)], evaluations={"validation": measured}))})
    assert ">other</text>" not in plot.svg
    assert plot.svg.count(">5-gram</text>") == 1


def test_the_report_has_plot_table_and_a_file_of_its_own(record, tmp_path):
    write(run_document(analyse(record)), tmp_path)
    page, markdown = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert 'id="plot-frontier"' in page
    assert "What each way to write costs" in page
    assert "| ar, verified | 6.40 | 21.2 |" in markdown
    drawn = (tmp_path / "plots" / "frontier.svg").read_text()
    assert ElementTree.parse(io.StringIO(drawn)).getroot().tag.endswith("svg")
    assert "var(" not in drawn
    assert (tmp_path / "plots" / "frontier.png").exists()


def test_texts_stand_under_their_prompt_real_text_first(make_run, tmp_path):
    measured = costly(
        texts=[{"prompt": "To <be>\n", "model": "or *ot", "real": "or not", "passes_4": "or|not"}]
    )
    found = texts(Evaluation.from_json(measured))
    assert found == [("To <be>\n", [("real text", "or not"), ("one pass", "or *ot"), ("4 passes", "or|not")])]
    record = read_run(make_run([train_row(25), train_row(50)], evaluations={"validation": measured}))
    write(run_document(analyse(record)), tmp_path)
    page, markdown = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert '<span class="verbatim">or|not</span>' in page
    assert "&lt;be&gt;" in page
    assert "<be>" not in page
    assert "&lt;be&gt;" in markdown
    assert "<be>" not in markdown
    assert "| 4 passes | <code>or&#124;not</code> |" in markdown


def test_a_file_of_its_own_has_paper_and_the_colours_of_the_light_page():
    drawn = svg_file('<svg viewBox="0 0 1 1" role="img"><path style="fill: var(--ink, #1f2328)"/></svg>')
    assert re.search(r'<svg [^>]*><rect [^>]*fill="#ffffff"/><path style="fill: #1f2328"/>', drawn)


def test_many_columns_stand_in_two_tables_with_the_names_of_their_metrics():
    text = shown(blocks_view([evaluation_table(Evaluation.from_json(costly()))]), width=80)
    first, second = text.split("baseline 2")
    assert "verified 5-gram" in first
    for text in (first, second):
        words = " ".join(text.split())
        assert all(name in words for name in ("NLL minus that", "forward passes", "time of a text"))
    assert "21.2" in first  # milliseconds of verified text
    assert "-0.400" in second
