import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from synthetic_run import evaluation, healthy_rows, laboratory_rows, phase_event, summary_of

from jepalm.config import Config
from jepalm.errors import JepalmError
from jepalm.report.comparison import compare
from jepalm.report.plots.article import composition_bars, embedding_by_epoch
from jepalm.report.plots.catalogue import ALL_PLOTS, ARTICLE_PLOTS, RUN_PLOTS, draw
from jepalm.report.plots.compare import COMPARISON_PLOTS, comparison_plots
from jepalm.report.plots.draw import PALETTE, inline_svg, thin
from jepalm.report.plots.evaluation import nll_by_position
from jepalm.report.plots.heatmap import embedding_heatmap
from jepalm.report.plots.run import cosines_over_time, curves, r2, weights_over_time
from jepalm.report.read import read_run


def uncertain():
    tree = Config().model_dump()
    tree["objective"]["weighting"] = "uncertainty"
    return tree


PNG = b"\x89PNG\r\n\x1a\n"


def test_a_full_run_draws_every_plot_once_and_no_two_share_an_id(make_run):
    record = read_run(make_run(laboratory_rows(1000), evaluations={"validation": evaluation()}))
    plots = draw(record)
    assert [plot.name for plot in plots] == list(ALL_PLOTS)
    ids = [found for plot in plots for found in re.findall(r'\bid="([^"]+)"', plot.svg)]
    assert len(ids) == len(set(ids))
    for plot in plots:
        ElementTree.fromstring(plot.svg)
        assert plot.png.startswith(PNG)
        used = set(re.findall(r'(?:url\(|href=")#([^")]+)', plot.svg))
        assert used <= set(ids)


def test_a_run_without_rows_draws_nothing(make_run):
    record = read_run(make_run([]))
    assert draw(record) == []


def test_a_single_row_is_drawn(make_run):
    record = read_run(make_run(healthy_rows(25)))
    names = [plot.name for plot in draw(record)]
    assert names == ["reconstruction", "embedding", "length", "composition", "curves", "optimisation"]


def test_values_that_are_not_finite_or_not_positive_are_no_fault(make_run):
    rows = [
        {
            "kind": "train",
            "step": k,
            "train/loss": value,
            "train/term/length": value,
            "batches": {"length": [value]},
        }
        for k, value in enumerate([0.0, -1.0, float("nan"), float("inf"), 1e30], start=1)
    ]
    record = read_run(make_run(rows))
    assert {"length", "curves"} <= {plot.name for plot in draw(record)}


def test_plots_are_the_same_bytes_each_time(make_run):
    record = read_run(make_run(healthy_rows(500)))
    assert composition_bars(record) == composition_bars(record)


def test_colours_of_the_svg_follow_the_page(make_run):
    svg = r2(read_run(make_run(healthy_rows(500)))).svg
    ink, _ = PALETTE["ink"]
    assert f"var(--ink, {ink})" in svg
    assert re.sub(r"var\([^)]*\)", "", svg).count(ink) == 0


def test_embedding_has_one_line_an_epoch(make_run):
    svg = embedding_by_epoch(read_run(make_run(healthy_rows(2000)))).svg
    assert [f"epoch {k}" in svg for k in (1, 2, 3, 4, 5)] == [True, True, True, True, False]


def test_a_term_that_begins_with_a_later_epoch_has_a_line_for_each_of_its_own(make_run):
    rows = [row for row in healthy_rows(2000) if row["step"] > 1000]
    svg = embedding_by_epoch(read_run(make_run(rows))).svg
    assert [f"epoch {k}" in svg for k in (2, 3, 4, 5)] == [False, True, True, False]


def test_inlined_svg_names_itself_and_escapes_its_title():
    svg = inline_svg('<?xml?><svg width="9" viewBox="0 0 1 1"><g id="a"/></svg>', "x", 'a "<b>"')
    assert svg == '<svg viewBox="0 0 1 1" role="img" aria-label="a &quot;&lt;b>&quot;"><g id="x-a"/></svg>'


def test_thinning_keeps_the_extremes():
    values = np.zeros(10_000)
    values[1234], values[4321] = 7.0, -7.0
    steps, kept = thin(np.arange(10_000), values, 100)
    assert len(kept) <= 104
    assert dict(zip(steps.tolist(), kept.tolist(), strict=True))[1234] == 7.0
    assert kept.min() == -7.0


OVER_STEPS = {*ARTICLE_PLOTS, *RUN_PLOTS} - {"embedding", "composition"}


def test_every_plot_over_steps_names_the_phases(make_run):
    record = read_run(make_run(laboratory_rows(1000)))
    plots = draw(record)
    assert {plot.name for plot in plots if ">predictor<" in plot.svg} == OVER_STEPS


def test_a_run_of_one_phase_names_none(make_run):
    rows = [phase_event(0, "everything", 0), *healthy_rows(500)]
    record = read_run(make_run(rows))
    assert "everything" not in curves(record).svg


def test_fixed_weights_are_not_drawn_and_moving_ones_are(make_run):
    assert weights_over_time(read_run(make_run(healthy_rows(100)))) is None
    rows = laboratory_rows(1000)
    plot = weights_over_time(read_run(make_run(rows, name="b", config=uncertain())))
    # Reconstruction ends at exp(4), the default clamp; the others keep 1, far from it.
    assert plot.svg.count(">clamp<") == 1
    assert ">clamp<" not in weights_over_time(read_run(make_run(rows[:20], name="c", config=uncertain()))).svg


def test_gradients_of_one_term_have_no_cosine_to_draw(make_run):
    assert cosines_over_time(read_run(make_run(healthy_rows(100)))) is None


def test_nll_by_position_has_a_panel_a_split_and_a_line_a_text(make_run):
    measured = {split: evaluation(split) for split in ("validation", "test")}
    svg = nll_by_position(read_run(make_run([], evaluations=measured))).svg
    assert [f"{split}, 999 prompts" in svg for split in ("train", "validation", "test")] == [
        False,
        True,
        True,
    ]
    assert [svg.count(f">{name}<") for name in ("model", "real", "5-gram", "baseline")] == [2, 2, 2, 0]


def test_comparison_draws_every_overlay(make_run):
    runs = [make_run(healthy_rows(500), name=name) for name in ("a", "b")]
    plots = comparison_plots(compare([summary_of(run) for run in runs]))
    assert [plot.name for plot in plots] == list(COMPARISON_PLOTS)


@pytest.mark.parametrize(("name", "start"), [("map.png", PNG), ("map.svg", b"<?xml")])
def test_heatmap_of_embeddings(tmp_path, name, start):
    path = tmp_path / name
    embedding_heatmap(np.linspace(-1, 1, 12).reshape(3, 4), ["a", " ", "\n"], path, "embeddings of a test")
    assert path.read_bytes().startswith(start)


def test_heatmap_in_a_missing_folder_is_an_error_for_people(tmp_path):
    with pytest.raises(JepalmError, match="cannot write"):
        embedding_heatmap(np.zeros((1, 2)), ["a"], tmp_path / "none" / "map.png", "title")


def test_heatmap_wants_a_label_a_position(tmp_path):
    with pytest.raises(ValueError, match="1 labels"):
        embedding_heatmap(np.zeros((2, 2)), ["a"], tmp_path / "map.png", "title")
