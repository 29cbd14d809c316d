"""`jepalm evaluate` from a trained run to the table: order of the controls, exactness, errors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from jepalm.cli.evaluate import evaluate as command
from jepalm.config import HardwareConfig, from_mapping
from jepalm.data.batches import Batch, pad_rows
from jepalm.data.job import Job
from jepalm.data.ngram import NGram
from jepalm.data.pairs.preparing import prepare_pairs
from jepalm.data.pairs.reading import PairFiles
from jepalm.data.prepared import Origin, Request
from jepalm.data.text.preparing import prepare_text
from jepalm.data.text.reading import RawText
from jepalm.errors import JepalmError, UsageError
from jepalm.evaluation.evaluate import evaluate
from jepalm.evaluation.settings import EvaluationSettings
from jepalm.evaluation.text.embeddings import measure_embeddings, pair_batches
from jepalm.evaluation.text.held_out import pick_pairs, read_training_text
from jepalm.evaluation.text.infilling import ORDER, other_places
from jepalm.evaluation.text.measure import position_ranges
from jepalm.evaluation.validation.jepalm import measure
from jepalm.generation.loading import load_trained
from jepalm.run import RunFolder
from jepalm.session import new_session

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

WORDS = ["red", "blue", "green", "amber", "black", "white", "pink", "violet"]
ORIGIN = Origin(source="given text", where=["toy.txt"])
MODEL = {
    "dim": 16,
    "n_heads": 2,
    "ffn_mult": 2,
    "source_len": 24,
    "target_len": 24,
    "encoder": {"n_layers": 1},
    "predictor": {"n_layers": 1},
    "decoder": {"n_layers": 1},
}
HARDWARE = {"device": "cpu", "precision": "fp32", "threads": 1}

app = typer.Typer()
app.command()(command)


def toy_lines(n=900):
    """A word, six dashes, the same word: what four characters of context cannot carry across."""
    picks = np.random.default_rng(0).integers(len(WORDS), size=n)
    return "".join(f"{WORDS[pick]}------{WORDS[pick]}\n" for pick in picks)


def train(folder: Path, data: str, steps: int) -> RunFolder:
    config = from_mapping(
        {
            "preset": "nano",
            "data": {"name": data},
            "model": MODEL,
            "hardware": HARDWARE,
            "training": {"steps": steps, "batch_size": 8, "validation_batches": 1, "samples": 0},
        }
    )
    with new_session(config, folder / "data") as session:
        run = session.open_folder(folder / "runs", data, session.cost())
        session.train(run, None)
    return run


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """Prepared data of each pairing; runs are trained beside it."""
    threads, folder = torch.get_num_threads(), tmp_path_factory.mktemp("house")
    torch.set_num_threads(1)
    for pairing in ("lines", "windows"):
        asked = Request(pairing=pairing, tokenizer="char")
        job = Job(folder / "data", pairing, "text", ORIGIN, "none", asked)
        prepare_text(job, RawText(content=toy_lines().encode()))
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"source": w, "target": w[::-1] + "!"}) + "\n" for w in WORDS * 20))
    asked = Request(pairing="pairs", tokenizer="char")
    prepare_pairs(Job(folder / "data", "pairs", "pairs", ORIGIN, "none", asked), PairFiles(rows, False))
    yield folder
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def run(house):
    return train(house, "lines", 40)


@pytest.fixture(scope="module")
def trained(run):
    return load_trained(run, hardware=HardwareConfig(**HARDWARE))


@pytest.fixture(scope="module")
def evaluation(house, trained):
    """Scored by a 12-gram, which sees a word across the dashes."""
    prepared = trained.data(house / "data")
    training = read_training_text(prepared)
    scorer = NGram.fit(training.ids, prepared.meta.vocab_size, 12, training.starts)
    return evaluate(trained, prepared, EvaluationSettings(n_prompts=20), scorer=scorer)


def test_real_text_is_likelier_than_the_5_gram_s_and_that_likelier_than_an_untrained_model_s(house):
    untrained = load_trained(train(house, "lines", 1), hardware=HardwareConfig(**HARDWARE))
    prepared = untrained.data(house / "data")
    training = read_training_text(prepared)
    scorer = NGram.fit(training.ids, prepared.meta.vocab_size, 12, training.starts)
    nll = evaluate(untrained, prepared, EvaluationSettings(n_prompts=20), scorer=scorer)["scorer/nll"].values
    assert nll["real"] < nll["ngram"] - 0.1
    assert nll["ngram"] < nll["model"] - 0.5


def test_the_gap_is_the_difference_to_real_text_and_none_for_real_text_itself(evaluation):
    level, gap = evaluation["scorer/nll"].values, evaluation["scorer/gap"].values
    assert gap == {name: pytest.approx(value - level["real"]) for name, value in level.items()}
    assert gap["real"] == 0


def test_every_interval_holds_its_metric(evaluation):
    for row in evaluation.rows:
        if row.interval is not None:
            low, high = row.interval
            assert low - 1e-9 <= row.values["model"] <= high + 1e-9, row.name


def test_metrics_of_pairs_are_those_of_validation(trained, house):
    pairs = pick_pairs(trained.data(house / "data").split("validation"), trained.config.model, 20).pairs
    rows = measure_embeddings(
        trained.objective,
        *pair_batches(pairs, other_places(len(pairs), 0), trained.hardware),
        trained.hardware,
        seed=0,
        ce_controls={},
        accuracy_controls={},
    )
    source, target = (pad_rows(list(texts), torch.device("cpu")) for texts in zip(*pairs, strict=True))
    batch = Batch(source, target, None, len(pairs), int(target.lengths.sum()))
    with torch.no_grad():
        known = measure(trained.objective, [batch])
    found = {row.name.partition("/")[2]: row.values["model"] for row in rows}
    for name in (
        "reconstruction_ce",
        "reconstruction_accuracy",
        "generation_ce",
        "generation_accuracy",
        "r2",
    ):
        assert found[name] == pytest.approx(known[f"validation/{name}"], rel=1e-4), name
    assert found["rms_error"] ** 2 * MODEL["dim"] == pytest.approx(known["validation/embedding"], rel=1e-4)


def without_times(evaluation):
    """An evaluation as JSON, without what a text costs here and now."""
    tree = evaluation.as_json()
    return {**tree, "rows": [row for row in tree["rows"] if not row["name"].startswith("cost/")]}


def test_an_evaluation_repeats_exactly_and_its_prompts_do_not_depend_on_the_seed(house, trained):
    prepared = trained.data(house / "data")
    one, two, other = (
        evaluate(trained, prepared, EvaluationSettings(n_prompts=8, seed=seed)) for seed in (0, 0, 1)
    )
    assert without_times(one) == without_times(two)
    assert one["scorer/nll"].values["real"] == other["scorer/nll"].values["real"]
    assert one["scorer/nll"].values["ngram"] != other["scorer/nll"].values["ngram"]


def test_packed_and_padded_models_have_the_same_figures(house, trained, run):
    padded = load_trained(run, hardware=HardwareConfig(**HARDWARE, packing=False))
    assert trained.hardware.packing
    prepared = trained.data(house / "data")
    one, other = (
        evaluate(model, prepared, EvaluationSettings(n_prompts=8, temperature=0.0))
        for model in (trained, padded)
    )
    for row in one.rows:
        if row.group == "cost":
            continue
        expected = pytest.approx(row.values["model"], rel=1e-3, abs=1e-6, nan_ok=True)
        assert other[row.name].values["model"] == expected, row.name


def test_the_most_likely_text_collides_with_itself(house, trained):
    found = evaluate(trained, trained.data(house / "data"), EvaluationSettings(n_prompts=8, temperature=0.0))
    assert found["brier/collision_8"].values["model"] == 1
    assert found["brier/collision_8"].values["ngram"] < 1


def test_real_text_has_no_brier_and_a_noise_floor(evaluation):
    assert "real" not in evaluation["brier/score_1"].values
    floor, divergence = (evaluation["text/jsd_1"].values[name] for name in ("real", "model"))
    assert 0 < floor < divergence


def test_a_model_that_writes_little_does_not_shrink_its_controls(evaluation):
    row = evaluation["text/entropy_1"]
    assert row.controls["of the model"] < row.controls["n-grams of each"]
    assert row.controls["real text of that size"] <= row.values["real"]


def test_prompts_and_reference_are_different_pairs(house, trained):
    split = trained.data(house / "data").split("validation")
    held_out = pick_pairs(split, trained.config.model, 5)
    shown = trained.tokenizer.decode
    texts = [shown(row) for row in held_out.reference] + [shown(target) for _, target in held_out.pairs]
    everything = [shown(split.pair(index)[1]) for index in range(split.n_pairs)]
    places = [index * split.n_pairs // 10 for index in range(10)]
    assert texts == [everything[place] for place in places[1::2] + places[::2]]


def test_other_places_are_a_cycle_without_fixed_points():
    other = other_places(50, seed=4)
    assert sorted(other) == list(range(50))
    assert all(other != np.arange(50))


def test_positions_are_cut_into_ranges_that_double():
    assert position_ranges(10) == [(1, 1), (2, 2), (3, 4), (5, 8), (9, 10)]
    assert position_ranges(0) == []


@pytest.mark.parametrize("pairing", ["windows", "pairs"])
def test_other_pairings_are_evaluated_too(house, pairing):
    other = load_trained(train(house, pairing, 2), hardware=HardwareConfig(**HARDWARE))
    found = evaluate(other, other.data(house / "data"), EvaluationSettings(n_prompts=4))
    names = [row.name for row in found.rows]
    assert ("scorer/join" in names) == (pairing == "windows")
    assert found["scorer/nll"].values["real"] < found["scorer/nll"].values["model"]


def test_given_pairs_are_documents_of_their_own(house):
    run = train(house, "pairs", 1)
    trained = load_trained(run, hardware=HardwareConfig(**HARDWARE))
    training = read_training_text(trained.data(house / "data"), limit=20)
    assert training.text == "\n".join(f"{word}{word[::-1]}!" for word in WORDS[:3])
    assert training.starts.tolist() == [0, 7, 16]


def test_the_command_shows_what_was_measured_on_and_writes_the_file(house, run):
    result = call(run.path, "--prompts", 8, "--data-dir", house / "data")
    assert result.exit_code == 0
    head, _, rest = result.stdout.partition("\n")
    assert head == (
        f"{run.name} at step 40 · 8 prompts of validation, 2 samples each · temperature 1, seed 0"
    )
    assert f"scorer: Witten-Bell {ORDER}-gram" in rest
    for metric in ("CE on target", "R2 against", "NLL at position", "divergence of", "Brier-8"):
        assert metric in rest
    tree = json.loads((run.report / "evaluation-validation.json").read_text())
    assert tree["n_prompts"] == 8
    assert {"name", "label", "unit", "model", "real", "ngram", "baseline", "interval", "controls"} == set(
        tree["rows"][0]
    )


def test_json_is_the_evaluation_and_nothing_else(house, run):
    result = call(run.path, "--prompts", 8, "--split", "test", "--data-dir", house / "data", "--json")
    tree = json.loads(result.stdout)
    path = Path(tree.pop("file"))
    assert path == run.report / "evaluation-test.json"
    assert tree == json.loads(path.read_text())
    assert (tree["split"], tree["step"], tree["baseline"]) == ("test", 40, None)


def test_a_baseline_stands_beside(house, run):
    result = call(run.path, "--prompts", 8, "--baseline", run.path, "--data-dir", house / "data", "--json")
    rows = {row["name"]: row for row in json.loads(result.stdout)["rows"]}
    assert rows["scorer/nll"]["baseline"] == rows["scorer/nll"]["model"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split", "tset"], "unknown split tset (did you mean test?)"),
        (["--baseline", "nowhere"], "no run at nowhere"),
        (["--data-dir", "nowhere"], "no prepared data lines under nowhere"),
    ],
)
def test_bad_input_ends_in_one_line(house, run, words, message):
    error = call(run.path, "--data-dir", house / "data", *words).exception
    assert isinstance(error, UsageError)
    assert str(error).startswith(message)
    assert "\n" not in str(error)


def test_a_baseline_with_another_tokenizer_is_refused(house, run):
    other = train(house, "lines", 1)
    table = other.path / "tokenizer.json"
    table.write_text(table.read_text().replace('"~": 99', '"é": 99'))
    error = call(run.path, "--baseline", other.path, "--data-dir", house / "data").exception
    assert isinstance(error, UsageError)
    assert "different tokenizers" in str(error)


def test_a_report_folder_that_is_a_file_is_told_in_one_line(house):
    other = train(house, "lines", 1)
    other.report.unlink(missing_ok=True)
    other.report.write_text("in the way")
    error = call(other.path, "--prompts", 4, "--data-dir", house / "data").exception
    assert isinstance(error, JepalmError)
    assert "evaluation-validation.json" in str(error)


def test_importing_the_command_loads_nothing_heavy():
    heavy = {"torch", "numpy", "rich.table"}
    code = f"import sys, jepalm.cli.evaluate; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "120"})
