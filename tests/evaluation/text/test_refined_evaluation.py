import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jepalm.cli.refining import kept_of, numbers_of_passes
from jepalm.config import HardwareConfig
from jepalm.errors import UsageError
from jepalm.evaluation.evaluate import evaluate
from jepalm.evaluation.rows import Evaluation
from jepalm.evaluation.settings import EvaluationSettings
from jepalm.generation.loading import TrainedModel, load_trained
from jepalm.report.analysis.evaluation import columns, header
from jepalm.report.plots.evaluation import faintness
from jepalm.report.render.run import evaluation_table
from jepalm.report.render.terminal import blocks_view

CPU = HardwareConfig(device="cpu", precision="fp32", threads=1)


@pytest.fixture(scope="module")
def unmasking(train_tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    run = train_tiny(
        tmp_path_factory.mktemp("revealing"),
        data__name="windows",
        model__source_len=4,
        model__target_len=8,
        model__predictor__unmasked="true",
        objective__length__kind="none",
        training__steps=1,
    )
    return load_trained(run, "last", CPU)


@pytest.fixture(scope="module")
def evaluation(unmasking: TrainedModel, data_root: Path) -> Evaluation:
    return evaluate(unmasking, unmasking.data(data_root), EvaluationSettings(n_prompts=2, passes=[2, 4]))


def test_each_number_of_passes_has_the_figures_of_the_model(evaluation: Evaluation):
    for row in evaluation.rows:
        if row.group in ("text", "brier") or row.name in ("scorer/nll", "scorer/gap", "scorer/shuffled"):
            assert {"model", "passes_2", "passes_4", "ngram"} <= row.values.keys(), row.name
    assert evaluation["text/characters"].values["passes_4"] == 8
    level, gap = evaluation["scorer/nll"].values, evaluation["scorer/gap"].values
    assert gap["passes_2"] == pytest.approx(level["passes_2"] - level["real"])


def test_further_columns_change_no_other(evaluation: Evaluation, unmasking: TrainedModel, data_root: Path):
    alone = evaluate(unmasking, unmasking.data(data_root), EvaluationSettings(n_prompts=2))
    for row in alone.rows:
        if row.group == "cost":  # times
            continue
        same = {name: evaluation[row.name].values[name] for name in row.values}
        assert same == pytest.approx(row.values, rel=1e-12, nan_ok=True), row.name


def test_the_first_texts_are_kept_for_reading(
    evaluation: Evaluation, unmasking: TrainedModel, data_root: Path
):
    assert len(evaluation.texts) == evaluation.n_prompts
    for conditioning in evaluation.texts:
        assert conditioning.keys() == {"prompt", "real", "model", "ngram", "passes_2", "passes_4"}
        assert {len(text) for name, text in conditioning.items() if name != "prompt"} == {8}
    many = evaluate(unmasking, unmasking.data(data_root), EvaluationSettings(split="train", n_prompts=60))
    assert len(many.texts) == 20 < many.n_prompts


def test_texts_of_a_length_take_as_many_passages(
    evaluation: Evaluation, unmasking: TrainedModel, data_root: Path
):
    data = unmasking.data(data_root)
    long = evaluate(unmasking, data, EvaluationSettings(split="train", n_prompts=2, passes=[2], length=20))
    sizes = long["text/characters"].values
    assert {sizes[name] for name in ("model", "passes_2", "real", "ngram")} == {20}
    costs = long["cost/passes"].values
    assert (costs["model"], costs["passes_2"], costs["ngram"]) == (3, 6, 20)
    read = Evaluation.from_json(json.loads(json.dumps(long.as_json())))
    assert "all texts have 20 tokens, of as many passages as it takes" in header(read)
    short = evaluate(unmasking, data, EvaluationSettings(n_prompts=2, length=3))
    assert {short["text/characters"].values[name] for name in ("model", "real", "ngram")} == {3}
    for row in evaluation.rows:
        if row.group in ("decoder", "embedding"):  # of one passage, whatever the length of the texts
            assert short[row.name].values == pytest.approx(row.values, nan_ok=True), row.name


def test_texts_of_which_less_is_kept_cost_more_passes(unmasking: TrainedModel, data_root: Path):
    data = unmasking.data(data_root)
    conditioning = evaluate(
        unmasking, data, EvaluationSettings(split="train", n_prompts=2, length=16, kept=[0.5, 2, 7])
    )
    costs = conditioning["cost/passes"].values
    assert (costs["model"], costs["kept_7"], costs["kept_2"]) == (2, 3, 8)
    assert costs["model"] <= costs["sure_0.5"] <= 16
    read = Evaluation.from_json(json.loads(json.dumps(conditioning.as_json())))
    assert list(columns(read))[:4] == ["model", "kept_7", "kept_2", "sure_0.5"]
    assert read["scorer/gap"].values.keys() >= {"kept_7", "kept_2", "sure_0.5"}


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"kept": [2]}, "--keep needs the length of the text"),
        ({"kept": [2, 8], "length": 16}, "writes 8 tokens a passage: --keep 8 keeps all"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    unmasking: TrainedModel, data_root: Path, settings: dict[str, Any], why: str
):
    with pytest.raises(UsageError, match=why):
        evaluate(unmasking, unmasking.data(data_root), EvaluationSettings(n_prompts=2, **settings))


def test_what_is_kept_is_a_list_with_commas():
    assert kept_of("--keep", "4, 1,0.5,4") == [0.5, 1, 4]
    assert kept_of("--keep", None) == []
    for wrong in ("", "x", "0", "1.5", "-1", "nan", "inf", "4,"):
        with pytest.raises(UsageError, match="neither a number of tokens nor a probability"):
            kept_of("--keep", wrong)


def test_a_length_is_refused_where_texts_end_by_themselves(trained_run: Any, data_root: Path):
    lines = load_trained(trained_run, "last", CPU)
    with pytest.raises(UsageError, match="writes lines, which end where they end"):
        evaluate(lines, lines.data(data_root), EvaluationSettings(n_prompts=2, length=20))


def test_a_file_of_them_reads_back_and_is_shown(evaluation: Evaluation):
    tree = json.loads(json.dumps(evaluation.as_json()))
    read = Evaluation.from_json(tree)
    assert (read.passes, read.order) == ([2, 4], "random")
    assert read["scorer/nll"].values == evaluation["scorer/nll"].values
    assert list(columns(read).values()) == ["model", "2 passes", "4 passes", "real", "5-gram"]
    assert read["text/characters"].values["passes_2"] == 8
    assert "model writes in one pass; in more passes it decides by order random" in header(read)


def test_lines_of_more_passes_are_stronger():
    names = ["passes_4", "passes_8", "kept_2"]
    assert [faintness(names, name) for name in names] == [0.5, 0.75, 1.0]
    assert faintness(names, "model") == 1.0


def test_a_model_without_unmasked_positions_is_refused(trained_run: Any, data_root: Path):
    lines = load_trained(trained_run, "last", CPU)
    with pytest.raises(UsageError, match="cannot refine: it was trained without unmasked positions"):
        evaluate(lines, lines.data(data_root), EvaluationSettings(n_prompts=2, passes=[4]))


def test_numbers_of_passes_are_a_list_with_commas():
    assert numbers_of_passes("1,16, 4,4", None) == [4, 16]
    assert numbers_of_passes(None, None) == []
    for wrong in ("", "4,", "0,4", "a", "-1"):
        with pytest.raises(UsageError, match="is no list of whole numbers"):
            numbers_of_passes(wrong, None)
    with pytest.raises(UsageError, match="--order does nothing with one pass"):
        numbers_of_passes("1", "random")


def test_every_figure_keeps_its_name_beside_many_columns(evaluation: Evaluation):
    console = Console(width=80, file=io.StringIO())
    console.print(blocks_view([evaluation_table(evaluation)]))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for text in ("valid words", "length, chars/text", "2 passes", "4 passes", "  [8.00, 8.00]"):
        assert text in shown, text
