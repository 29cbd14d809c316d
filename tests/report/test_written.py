"""What lies on disk after a report."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from synthetic_run import healthy_rows, shown, summary_of, train_row

from jepalm.errors import JepalmError
from jepalm.report.comparison import compare
from jepalm.report.plots.catalogue import ALL_PLOTS
from jepalm.report.read import read_run
from jepalm.report.render.blocks import visible
from jepalm.report.render.run import run_document, sparkline
from jepalm.report.render.several import comparison_document
from jepalm.report.render.terminal import view
from jepalm.report.render.write import write


def read_csv(path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def run_view(summary):
    return view(run_document(summary, drawn=False))


def test_every_file_is_there(report):
    names = {str(path.relative_to(report)) for path in report.rglob("*") if path.is_file()}
    tables = ["train", "validation", "batches", "embedding_by_epoch", "composition", "samples"]
    tables += ["phases", "evaluation"]
    evaluations = {f"evaluation-{split}.json" for split in ("validation", "test")}  # was there before
    expected = {"report.html", "report.md", *evaluations, *(f"data/{name}.csv" for name in tables)}
    drawn = {"plots/frontier.svg", *(f"plots/{name}.png" for name in ALL_PLOTS)}
    assert names == expected | drawn


def test_the_page_is_self_contained(report):
    page = (report / "report.html").read_text()
    page = re.sub(r'xmlns(:xlink)?="[^"]*"', "", page)
    assert not re.findall(r"https?://|<script|<link[^>]+stylesheet|@import|<img", page)


def test_text_of_a_run_is_escaped_in_the_page(report):
    page = (report / "report.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;/code&gt;&lt;img" in page
    assert "jepalm &lt;b&gt; x" in page


def test_text_of_a_run_is_escaped_in_markdown(report):
    text = (report / "report.md").read_text()
    assert "<script" not in text
    assert "<img" not in text
    assert "<code>a&#124;b·&#96;x&#96;⏎" in text


def test_whitespace_of_samples_is_seen(report):
    assert 'And<span class="ws">·</span>the' in (report / "report.html").read_text()


def test_the_page_nests_its_elements(report):
    stack: list[str] = []
    void = {"meta", "link", "br"}

    class Nesting(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in void:
                stack.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            if tag not in void:
                assert stack.pop() == tag

    Nesting().feed((report / "report.html").read_text())
    assert stack == []


def test_csv_has_every_scalar_and_every_batch(report):
    rows = read_csv(report / "data" / "train.csv")
    assert len(rows) == 40
    assert rows[0]["step"] == "25"
    assert float(rows[0]["train/loss"]) == train_row(25)["train/loss"]
    validation = read_csv(report / "data" / "validation.csv")
    assert (validation[-1]["validation/train_r2"], "validation/note" in validation[-1]) == ("0.5", False)
    batches = read_csv(report / "data" / "batches.csv")
    assert [row["step"] for row in batches] == [str(k) for k in range(1, 1001)]
    assert float(batches[6]["length"]) == train_row(25)["batches"]["length"][6]
    composition = read_csv(report / "data" / "composition.csv")
    assert sum(float(row["share"]) for row in composition) == pytest.approx(1)
    assert {(row["first_step"], row["last_step"]) for row in composition} == {("751", "1000")}
    phases = read_csv(report / "data" / "phases.csv")
    assert [row["phase"] for row in phases] == ["autoencoder"] * 3 + ["predictor"] * 3
    assert (phases[-1]["first_step"], phases[-1]["last_step"]) == ("501", "1000")
    assert [row["epoch"] for row in read_csv(report / "data" / "embedding_by_epoch.csv")] == ["1", "2"]


def test_an_empty_run_says_so_and_still_has_a_page(make_run):
    summary = summary_of(make_run([], status="running"))
    page = write(run_document(summary), summary.record.run.report)
    assert "nothing was recorded yet" in page.read_text()
    assert "nothing was recorded yet" in (page.parent / "report.md").read_text()
    assert "nothing was recorded yet" in shown(run_view(summary))


@pytest.mark.parametrize("missing", ["manifest", "config", "terms"])
def test_missing_fields_are_no_fault(make_run, missing):
    rows = healthy_rows(100) if missing != "terms" else [{"kind": "train", "step": 5, "train/loss": 1.0}]
    run = make_run(rows, config={} if missing == "config" else None)
    if missing == "manifest":
        (run / "manifest.json").write_text("{}")
    summary = summary_of(run)
    assert write(run_document(summary), run / "report").exists()
    assert "1 reconstruction CE" in shown(run_view(summary))


def test_plots_that_no_longer_apply_are_removed_and_foreign_files_kept(make_run):
    run = make_run([])
    plots = run / "report" / "plots"
    plots.mkdir(parents=True)
    (plots / "r2.png").write_bytes(b"old")
    (plots / "mine.png").write_bytes(b"mine")
    write(run_document(summary_of(run)), run / "report")
    assert [path.name for path in plots.iterdir()] == ["mine.png"]


def test_a_folder_that_cannot_be_written_is_an_error_for_people(make_run):
    run = make_run([])
    (run / "report").write_text("a file")
    with pytest.raises(JepalmError, match="cannot write the report under"):
        write(run_document(summary_of(run)), run / "report")


def test_a_comparison_is_written(make_run):
    runs = [make_run(healthy_rows(500), name=name) for name in ("a", "b<i>")]
    document = comparison_document(compare([summary_of(run) for run in runs]))
    page = write(document, runs[0] / "report" / "compare")
    assert "b&lt;i&gt;" in page.read_text()
    assert "The configs are the same." in (page.parent / "report.md").read_text()
    assert read_csv(page.parent / "data" / "table.csv")[0] == {
        "metric": "steps",
        "a": "500.0",
        "b<i>": "500.0",
    }
    assert "The configs are the same." in shown(view(document))


def test_terminal_view_has_the_numbers_beside_the_articles(make_run):
    text = shown(run_view(summary_of(make_run(healthy_rows(2000)))), width=300)
    for words in (
        "shakespeare · finished · 10.1 M parameters · 2,000 steps in 3.33 min on cpu",
        "(article: 25,000 in 8.60 h on an A100 80GB)",
        "Mean over steps 501 to 2,000, after the first epoch (train)",
        "57.5 %",
        "0.00102 at step 500 (train, mean of steps 476 to 500)",
        "0.029 at the start",
        "! one-shot text is the conditional mean",
        "loss",
        "█",
    ):
        assert words in text
    finding = next(line for line in text.splitlines() if line.startswith("1 reconstruction CE"))
    assert finding.rstrip().endswith("  reproduced")


@pytest.mark.parametrize("width", [24, 40, 200])
def test_terminal_view_fits_any_width(make_run, width):
    summary = summary_of(make_run(healthy_rows(500)))
    assert max(len(line) for line in shown(run_view(summary), width).splitlines()) <= width


def test_sparkline_spans_its_values_and_marks_what_is_not_finite(make_run):
    rows = [{"kind": "train", "step": k, "x": v} for k, v in enumerate([0, 7, float("nan"), 3.5], start=1)]
    assert sparkline(read_run(make_run(rows)).series("x")) in {"▁█×▄", "▁█×▅"}


def test_text_of_a_run_is_no_markup_in_the_terminal(make_run):
    text = shown(run_view(summary_of(make_run([], status="failed", error="[red]odd[/red]"))))
    assert "[red]odd[/red]" in text


def test_whitespace_becomes_visible():
    assert visible("a b\n\t\x00") == "a·b⏎⇥␀"
