"""A sweep over given pairs: causal and JEPALM rows have metrics of their answers in one table."""

import json

import pytest

from jepalm.data.job import Job
from jepalm.data.pairs.preparing import prepare_pairs
from jepalm.data.pairs.reading import PairFiles
from jepalm.data.prepared import Origin, Request
from jepalm.evaluation.answers.measure import FREQUENT, NEAREST
from jepalm.sweep.file import read_sweep
from jepalm.sweep.running import Sweeping

SIZES = {
    "model.dim": 16,
    "model.n_heads": 2,
    "model.ffn_mult": 2,
    "model.source_len": 8,
    "model.target_len": 4,
    "training.steps": 2,
    "training.batch_size": 4,
    "training.validation_batches": 1,
    "training.samples": 0,
    "hardware.device": "cpu",
    "hardware.precision": "fp32",
    "hardware.threads": 1,
}
CAUSAL = "[model.family=causal, model.causal.n_layers=1, model.causal.context_len=13]"
JEPALM = "[model.encoder.n_layers=1, model.predictor.n_layers=1, model.decoder.n_layers=1]"
METRICS = "metrics: [task/exact_match, task/language_equality, embedding/r2]\n"


@pytest.fixture
def open_sweep(in_this_process, tmp_path, data_root):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"source": f"{k}", "target": f"{k % 3}"}) + "\n" for k in range(40)))
    for task in ("regex", "text"):
        asked = Request(pairing="pairs", tokenizer="char", split=(60, 20, 20), task=task)
        origin = Origin(source="given pairs", where=["rows.jsonl"])
        prepare_pairs(Job(tmp_path / "data", task, "pairs", origin, "none", asked), PairFiles(rows))
    (tmp_path / "data" / "lines").symlink_to(data_root / "lines")

    def open_sweep(text, data="regex"):
        path = tmp_path / "lab.yaml"
        settings = [f"{key}={value}" for key, value in {"data.name": data, **SIZES}.items()]
        path.write_text(f"set: {json.dumps(settings)}\n{text}")
        return Sweeping(read_sweep(path), tmp_path / "runs", tmp_path / "data")

    return open_sweep


def evaluation_of(sweeping, row, seed=0, split="validation"):
    cell = next(cell for cell in sweeping.cells() if (cell.row, cell.seed) == (row, seed))
    return json.loads((cell.run.report / f"evaluation-{split}.json").read_text())


def test_both_families_are_compared_by_their_answers(open_sweep):
    text = f"{METRICS}seeds: [0, 1]\nrows: {{ar: {CAUSAL}, one-shot: {JEPALM}}}\n"
    sweeping = open_sweep(text + "evaluate: {split: test, baseline: ar}")
    sweeping.train(1, lambda line: None)
    table = open_sweep(text + "evaluate: {split: test, baseline: ar}").table()
    exact, equal, r2 = table.metrics
    for row in ("ar", "one-shot"):
        for seed in (0, 1):
            tree = evaluation_of(sweeping, row, seed, "test")
            found = {line["name"]: line["model"] for line in tree["rows"]}
            line = next(line for line in exact.lines if line.row == row)
            assert line.values[seed] == found["task/exact_match"]
            assert tree["n_answers"] == 8
            assert tree["asked"]["task"] == "regex"
    assert exact.lines[1].difference.n == 2
    assert {FREQUENT, NEAREST, "baseline"} == {*exact.metric.controls}
    assert equal.metric.label == "language equality"
    assert r2.lines[0].values == {}
    assert {*r2.lines[1].values} == {0, 1}
    assert table.measured_on.startswith("8 answers to test, the likeliest text; 4 prompts of test; scorer: ")


def test_causal_rows_alone_need_no_jepalm(open_sweep):
    text = f"metrics: [task/exact_match, writing/passes]\nseeds: [0]\nrows: {{ar: {CAUSAL}}}\n"
    sweeping = open_sweep(text + "evaluate: {prompts: 4}")
    sweeping.train(1, lambda line: None)
    assert [cell.status for cell in sweeping.cells()] == ["done"]
    tree = evaluation_of(sweeping, "ar")
    assert (tree["n_answers"], tree["baseline"]) == (4, None)
    again = open_sweep(text + "evaluate: {prompts: 4, reading: letter}")
    assert [cell.status for cell in again.cells()] == ["trained"]
    ignored = open_sweep(text + "evaluate: {prompts: 4, databases: nowhere}")
    assert [cell.status for cell in ignored.cells()] == ["done"]


def test_a_causal_row_without_metrics_of_answers_is_only_trained(open_sweep):
    text = f"seeds: [0]\nrows: {{ar: {CAUSAL}}}\n"
    for metrics, data in (("[embedding/r2]", "regex"), ("[task/exact_match]", "lines")):
        sweeping = open_sweep(f"metrics: {metrics}\n{text}", data)
        assert [sweeping.evaluates(cell) for cell in sweeping.cells()] == [None]


def test_what_is_asked_of_other_data_is_as_it_was(open_sweep):
    """Evaluations of lines made before there were answers still count."""
    sweeping = open_sweep(f"seeds: [0]\nrows: {{one: {JEPALM}}}\n", "lines")
    asked = sweeping.evaluates(sweeping.cells()[0]).asked(8)
    assert asked == {
        "step": 8,
        "split": "validation",
        "prompts": 1000,
        "samples": 2,
        "temperature": 1.0,
        "seed": 0,
        "baseline": None,
        "scorer": None,
    }
