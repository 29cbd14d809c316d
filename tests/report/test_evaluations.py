"""Evaluations that lie beside a report, in the page, the Markdown and the terminal."""

import json
import re
from pathlib import Path

import pytest
from synthetic_run import evaluation, shown, summary_of, train_row

from jepalm.config import Config
from jepalm.evaluation.rows import Evaluation
from jepalm.report.analysis.evaluation import columns, header
from jepalm.report.comparison import compare
from jepalm.report.read import read_run
from jepalm.report.render.run import evaluation_table, run_document
from jepalm.report.render.terminal import blocks_view, view


def run_view(summary):
    return view(run_document(summary, drawn=False))


def test_an_evaluation_survives_its_file():
    tree = evaluation(baseline="other")
    assert Evaluation.from_json(json.loads(json.dumps(tree))).as_json() == tree


def test_an_evaluation_of_a_later_version_is_read_as_far_as_it_is_known():
    tree = evaluation(brand_new=1)
    tree["rows"][0]["brand_new"] = 1
    assert Evaluation.from_json(tree)["decoder/generation_ce"].values == {"model": 4.61}


@pytest.mark.parametrize(
    "tree",
    [
        [],
        {},
        evaluation(rows=3),
        evaluation(rows=[3]),
        evaluation(n_prompts="many"),
        evaluation(by_position=1),
    ],
)
def test_what_is_no_evaluation_is_a_value_error(tree):
    with pytest.raises(ValueError, match=r"."):
        Evaluation.from_json(tree)


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": [{}]}'])
def test_a_damaged_file_is_told_and_the_other_split_shown(make_run, text):
    folder = make_run([train_row(25)], evaluations={"validation": text, "test": evaluation("test")})
    record = read_run(folder)
    assert list(record.evaluations) == ["test"]
    assert record.problems == [
        "evaluation-validation.json cannot be read: jepalm evaluate --split validation writes it anew"
    ]


def test_the_terminal_has_the_main_metrics_their_controls_and_intervals(make_run):
    text = shown(run_view(summary_of(make_run([train_row(25)], evaluations={"test": evaluation("test")}))))
    assert "one at step 500 · 999 prompts of test, 2 samples each" in text
    row = next(line for line in text.splitlines() if line.startswith("NLL"))
    assert row.split() == ["NLL,", "nats/char", "6.50", "[6.44,", "6.55]", "1.57", "1.31"]
    assert "training unigram 3.33" in text
    assert "chars/text" not in text
    assert "1 more on the page" in text


@pytest.mark.parametrize("width", [24, 60])
def test_the_terminal_s_table_fits_any_width(make_run, width):
    summary = summary_of(make_run([train_row(25)], evaluations={"test": evaluation("test")}))
    assert max(len(line) for line in shown(run_view(summary), width).splitlines()) <= width


def test_what_has_no_meaning_for_a_run_is_said_and_its_columns_left_out(make_run):
    measured = evaluation("test", left_out="text figures: a run of gaps", by_position={})
    text = shown(run_view(summary_of(make_run([train_row(25)], evaluations={"test": measured}))))
    assert "left out: text figures: a run of gaps" in text
    assert "999 texts of test with gaps" in text
    assert "5-gram " not in text.split("over texts")[1]


def test_page_and_markdown_have_every_metric_of_both_splits(report: Path):
    page, markdown = (report / "report.html").read_text(), (report / "report.md").read_text()
    for text in (page, markdown):
        assert text.count("length, chars/text") == 2
        assert text.count("training unigram 3.33") == 2
    assert "[6.44, 6.55]" in page
    assert r"| NLL, nats/char | 6.50 | \[6.44, 6.55\] | 1.57 | 1.31 |" in markdown


def test_names_in_an_evaluation_are_escaped(report: Path):
    page, markdown = (report / "report.html").read_text(), (report / "report.md").read_text()
    for text in (page, markdown):
        assert "&lt;i&gt;other&lt;/i&gt;" in text
        assert "<i>" not in text


def test_a_run_that_went_on_says_so(report: Path):
    assert "The run has reached step 1,000 since." in (report / "report.html").read_text()


def test_a_run_without_an_evaluation_says_how_to_get_one(make_run):
    folder = make_run([train_row(25)])
    assert f"evaluation not evaluated yet: jepalm evaluate {folder}" in shown(
        run_view(summary_of(folder)), 300
    )


@pytest.mark.parametrize(
    ("pairing", "words"), [("pairs", "not evaluated yet: jepalm evaluate"), ("windows", "--baseline")]
)
def test_only_a_causal_run_of_pairs_is_sent_to_evaluate(make_run, pairing, words):
    tree = Config().model_dump()
    tree["model"]["family"] = "causal"
    folder = make_run([train_row(25)], config=tree, data={"name": "regex", "pairing": pairing})
    assert f"{words} " in shown(run_view(summary_of(folder)), 300)


def test_json_and_csv_have_the_evaluation(make_run, report: Path):
    summary = summary_of(make_run([train_row(25)], evaluations={"test": evaluation("test")}))
    assert summary.as_json()["evaluations"] == {"test": evaluation("test")}
    lines = (report / "data" / "evaluation.csv").read_text().splitlines()
    assert lines[1] == (
        "validation,decoder/generation_ce,CE on predicted embeddings,nats/token,"
        "4.61,,,,4.57,4.64,training unigram=3.33"
    )


def answers(run="ar", **changed):
    """An evaluation of answers alone."""
    row = {"label": "exact match", "unit": "", "real": None, "ngram": None, "interval": [0.4, 0.6]}
    row |= {"name": "task/exact_match", "model": 0.5, "baseline": 0.25, "controls": {"nearest": 0.02}}
    given = {"run": run, "n_samples": 0, "scorer": "none", "left_out": "no sampled text", "task": "regex"}
    return evaluation("test", **{**given, "n_answers": 2000, "rows": [row], "baseline": "other", **changed})


def test_answers_stand_beside_the_baseline_s():
    found = Evaluation.from_json(answers())
    assert list(columns(found)) == ["model", "baseline"]
    assert header(found)[0].endswith("2,000 answers to test, likeliest text, task regex · seed 0")
    assert header(found)[-1] == "baseline: other"
    text = shown(blocks_view([evaluation_table(found)]))
    assert "answers" in text
    assert re.search(r"exact match\s+0.500\s+\[0.400, 0.600\]\s+0.250\s+nearest 0.0200", text)


def test_answers_of_both_families_are_compared_and_other_metrics_only_where_measured_alike(make_run):
    one_shot = answers("one-shot", left_out=None, n_samples=2, scorer="5-gram")
    one_shot["rows"].append({**evaluation()["rows"][0]})
    runs = [
        make_run([train_row(25)], name=name, evaluations={"test": tree})
        for name, tree in (("ar", answers()), ("one-shot", one_shot))
    ]
    rows = {row.label: row.texts for row in compare([summary_of(run) for run in runs]).metrics}
    assert rows["exact match (evaluated, test)"] == ["0.500", "0.500"]
    fewer = make_run([train_row(25)], name="fewer", evaluations={"test": answers(n_answers=4)})
    rows = {row.label for row in compare([summary_of(run) for run in (runs[0], fewer)]).metrics}
    assert "exact match (evaluated, test)" not in rows
