"""Answers of runs of given pairs: both families, scored by the task, beside controls, and their speed."""

import dataclasses
import functools
import itertools
import json

import pytest
import torch

from jepalm.config import HardwareConfig, from_mapping
from jepalm.data.batches import pad_rows
from jepalm.data.job import Job
from jepalm.data.pairs.preparing import prepare_pairs
from jepalm.data.pairs.reading import PairFiles
from jepalm.data.prepared import Origin, Request, open_prepared
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import UsageError
from jepalm.evaluation.answers.answering import Answerer, write_in_turns
from jepalm.evaluation.answers.measure import FREQUENT, NEAREST, measure_answers, view_rows
from jepalm.evaluation.answers.questions import (
    LOST,
    Question,
    most_frequent_answer,
    nearest,
    read_all_answers,
    read_questions,
)
from jepalm.evaluation.evaluate import evaluate
from jepalm.evaluation.metrics import METRICS
from jepalm.evaluation.settings import EvaluationSettings
from jepalm.generation import one_pass as one_shot
from jepalm.generation import token_by_token as autoregressive
from jepalm.generation.loading import load_trained
from jepalm.session import new_session
from jepalm.training.estimate import Estimate

ORIGIN = Origin(source="given pairs", where=["rows.jsonl"])
HARDWARE = {"device": "cpu", "precision": "fp32", "threads": 1}
SIZES = {"dim": 16, "n_heads": 2, "ffn_mult": 2, "source_len": 12, "target_len": 6, "action_len": 2}
PARTS = {part: {"n_layers": 1} for part in ("encoder", "predictor", "decoder")}
FAMILIES = {
    "jepalm": {**SIZES, **PARTS},
    "causal": {**SIZES, "family": "causal", "causal": {"n_layers": 1, "context_len": 22}},
}
LETTERS = "abcdefgh"


def prepare(root, name, rows, **asked):
    path = root / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = Request(**{"pairing": "pairs", "tokenizer": "char", "split": (60, 20, 20), **asked})
    return prepare_pairs(Job(root, name, "pairs", ORIGIN, "none", request), PairFiles(path)).data


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """40 pairs: `a or b` means `a|b`, and half of the answers are `a`."""
    folder = tmp_path_factory.mktemp("answers")
    names = [f"{one} or {other}" for one, other in itertools.permutations(LETTERS, 2)][:40]
    rows = [{"source": s, "target": "a" if at % 2 else f"{s[0]}|{s[-1]}"} for at, s in enumerate(names)]
    prepare(folder, "regex", rows, task="regex")
    return folder


@pytest.fixture(scope="module")
def train(root, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")

    @functools.cache
    def train(family, data="regex", conditioning="none"):
        training = {"steps": 2, "batch_size": 8, "validation_batches": 1, "samples": 0}
        start = {
            "model": {**FAMILIES[family], "action": {"conditioning": conditioning}},
            "hardware": HARDWARE,
        }
        config = from_mapping({**start, "data": {"name": data}, "training": training})
        with new_session(config, root) as session:
            run = session.open_folder(runs, f"{family}-{data}", Estimate(0.0, 0, 0, 0))
            session.train(run, None)
        return load_trained(run, hardware=HardwareConfig(**HARDWARE))

    return train


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request, train):
    return train(request.param)


@pytest.fixture(scope="module")
def prepared(root):
    return open_prepared("regex", root)


def alone(trained, source):
    """The likeliest text after one source, written by itself."""
    ids = trained.tokenizer.encode(source)
    read = pad_rows([ids], torch.device("cpu"))
    if trained.config.model.family == "causal":
        read = pad_rows([[*ids, TextTokenizer.END]], torch.device("cpu"))
        made = autoregressive.generate(trained.objective, read, length=7, end=TextTokenizer.END)
        return trained.tokenizer.decode(made.rows[0])
    return trained.tokenizer.decode(one_shot.generate(trained.objective, read).rows()[0])


def test_every_source_is_answered_as_by_itself(trained, prepared):
    questions = read_questions(prepared.split("validation"), prepared.tokenizer, 100)
    written = write_in_turns({"model": Answerer(trained)}, questions)["model"]
    assert len(questions) == 8
    assert written.texts == [alone(trained, question.source) for question in questions]


def test_shares_are_those_of_the_texts_beside_controls(trained, prepared):
    split = prepared.split("validation")
    found = measure_answers(trained, prepared, split, EvaluationSettings())
    rows = {row.name: row for row in found.rows}
    gold = {q.source: q.gold for q in read_questions(split, prepared.tokenizer, 8)}
    right = sum(alone(trained, source) == answer for source, answer in gold.items())
    exact = rows["task/exact_match"]
    assert exact.values["model"] == right / 8
    assert exact.controls[FREQUENT] == sum(answer == "a" for answer in gold.values()) / 8 == 0.5
    assert 0 <= exact.controls[NEAREST] <= 1
    assert exact.interval[0] <= exact.values["model"] <= exact.interval[1]
    assert rows["task/malformed"].controls == {}
    assert found.n == 8
    assert all(METRICS[name].of_pairs for name in rows)


def test_a_run_beside_itself_has_the_same_shares(train, prepared):
    causal, jepalm = train("causal"), train("jepalm")
    for trained, other in ((causal, jepalm), (jepalm, causal)):
        found = evaluate(trained, prepared, EvaluationSettings(n_prompts=4), baselines=[other])
        own = evaluate(other, prepared, EvaluationSettings(n_prompts=4))
        assert found["task/exact_match"].values["baseline"] == own["task/exact_match"].values["model"]
        assert found["task/malformed"].values.keys() == {"model", "baseline"}
        assert found["writing/passes"].values["model" if trained is jepalm else "baseline"] == 1
        speed = found["writing/latency"]
        ratio = speed.values["model"] / speed.values["baseline"]
        assert speed.controls["times the baseline's"] == pytest.approx(ratio)
        assert (found.baseline, found.n_answers, found.task) == (other.run.name, 4, "regex")


def test_a_causal_evaluation_is_of_answers_alone_and_repeats(train, prepared):
    one, two = (evaluate(train("causal"), prepared, EvaluationSettings(split="test")) for _ in range(2))
    names = [row.name for row in one.rows]
    assert {name.partition("/")[0] for name in names} == {"task", "writing", "views"}
    assert (one.n_prompts, one.n_samples, one.scorer) == (8, 0, "none")
    for name in names:
        if name.startswith("task"):
            assert one[name].as_json() == two[name].as_json()


def test_a_jepalm_keeps_its_other_figures(train, prepared):
    names = [row.name for row in evaluate(train("jepalm"), prepared, EvaluationSettings(n_prompts=4)).rows]
    assert names[0] == "task/exact_match"
    assert {"decoder/generation_ce", "scorer/gap", "brier/score_8"} <= {*names}


def test_the_reading_of_a_boundary_reaches_the_scorer(train, root):
    rows = [{"source": f"{k}", "target": r"\ba\b"} for k in range(10)] + [{"source": "x", "target": "a"}] * 20
    data = prepare(root, "boundary", rows, task="regex")
    trained = train("causal", "boundary")

    def equal_by_chance(reading):
        settings = EvaluationSettings(reading=reading)
        found = measure_answers(trained, data, data.split("train"), settings).rows
        return next(row.controls[FREQUENT] for row in found if row.name == "task/language_equality")

    # of 18 training pairs the first 10 mean \ba\b, which stands most often
    assert equal_by_chance("boundary") == 1
    assert equal_by_chance("letter") == pytest.approx(10 / 18)


def test_runs_of_other_pairings_have_no_answers(train, prepared):
    causal = train("causal")
    lines = dataclasses.replace(causal, pairing="windows")
    with pytest.raises(UsageError, match="is a causal run of windows, which have no right answers"):
        evaluate(lines, prepared)
    with pytest.raises(UsageError, match="which have no right answers"):
        evaluate(causal, prepared, baselines=[lines])
    with pytest.raises(UsageError, match="leave --scorer out"):
        evaluate(causal, prepared, scorer=object())


def test_the_nearest_source_shares_most_of_its_3_grams():
    # " abcd " shares 2 of 4 and 4 with "abce" and as many with "xbcd": 2*2/8 each, and the first wins
    assert nearest(["abcd"], ["abce", "xbcd"]).tolist() == [0]
    assert nearest(["abcd", "zz"], ["xbcd", "abcd", "zz top"]).tolist() == [1, 2]
    # " abcd " in "abcd efgh ijkl" shares 3 of 4 and 12: 2*3/(4+14); in "abc": 2*2/(4+3)
    assert nearest(["abcd"], ["abcd efgh ijkl", "abc"]).tolist() == [1]


def test_the_most_frequent_answer_is_the_first_of_several():
    pairs = [Question("q", gold) for gold in ("b", "a", "b", "a", "c")]
    assert most_frequent_answer(pairs) == "b"


def test_what_the_alphabet_lacks_makes_an_answer_that_no_model_writes(tmp_path):
    rows = [{"source": "q é", "target": "aé"}] * 5
    data = prepare(tmp_path, "lost", rows)
    assert read_questions(data.split("train"), data.tokenizer, 1) == [Question(f"q {LOST}", f"a{LOST}")]


def test_all_pairs_of_a_source_are_one_question_with_their_targets_as_right_answers(tmp_path):
    texts = ["a A", "b B", "a C", "a A", "c D", *[f"{k} T" for k in range(4)]]
    rows = [dict(zip(("source", "target"), text.split(), strict=True)) for text in texts]
    split = prepare(tmp_path, "several", [*rows, *rows[:3]], task="g2p").split("train")
    found = read_all_answers(split, TextTokenizer.load(tmp_path / "several" / "tokenizer.json"), 100)
    assert found[:3] == [Question("a", "A; C"), Question("b", "B"), Question("c", "D")]


@pytest.fixture(scope="module")
def acted(root):
    """Data whose answer is the action's letter, and the source."""
    rows = [{"source": f"s{k % 4}", "target": f"{a}{k % 4}", "action": a} for k in range(12) for a in "uv"]
    return prepare(root, "acted", rows, task="transitions")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_that_reads_actions_is_evaluated_by_its_answers(train, acted, family):
    trained = train(family, "acted", "adaln" if family == "jepalm" else "none")
    questions = read_questions(acted.split("test"), acted.tokenizer, 100)
    assert questions[0] == Question("s1", "v1", "v")
    answerer, encode = Answerer(trained), trained.tokenizer.encode
    if family == "causal":
        read = [*encode("s1"), TextTokenizer.END, *encode("v"), TextTokenizer.END]
        expected = pad_rows([read], torch.device("cpu"))
        made = autoregressive.generate(trained.objective, expected, length=7, end=TextTokenizer.END).rows
    else:
        source, action = (pad_rows([encode(text)], torch.device("cpu")) for text in ("s1", "v"))
        made = one_shot.generate(trained.objective, source, action=action).rows()
    assert answerer.write(questions[:1])[0] == [trained.tokenizer.decode(made[0])]
    found = evaluate(trained, acted, EvaluationSettings(split="test"))
    groups = {"task", "writing", "action", "retrieval"} | ({"world"} if family == "jepalm" else set())
    assert {row.group for row in found.rows} - {"views"} == groups
    assert "which need the simulator of the data" in found.left_out
    assert found["task/exact_match"].controls[NEAREST] == 1  # every pair is in train too
    assert (found.n_answers, found.n_samples) == (5, 0)


def test_a_baseline_that_reads_actions_does_not_go_with_data_without(train, prepared, acted):
    with pytest.raises(UsageError, match="reads actions"):
        evaluate(train("causal"), prepared, baselines=[train("causal", "acted")])


def test_health_of_the_views_is_what_was_logged_at_the_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [
        {"kind": "validation", "step": 4, "validation/view_cosine_gap": 0.5},
        {"kind": "validation", "step": 8, "validation/view_cosine_gap": 0.25, "validation/view_retrieval": 1}
        | {"validation/view_retrieval_chance": 0.1, "validation/loss": 3},
        {"kind": "train", "step": 8, "train/loss": 1},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"kind": "validation", "st')
    found = {row.name: (row.values["model"], row.controls) for row in view_rows(path, 8)}
    assert found == {"views/cosine_gap": (0.25, {}), "views/retrieval": (1, {"chance": 0.1})}
    assert view_rows(path, 6) == view_rows(tmp_path / "none", 8) == []


def test_times_are_taken_in_turns():
    class Slow:
        def __init__(self, name):
            self.name, self.hardware = name, self

        def synchronize(self):
            pass

        def write(self, questions):
            calls.append((self.name, len(questions)))
            return ["ab"] * len(questions), 3

    calls, ticks = [], itertools.count()
    questions = [Question("q", "a")] * 70
    found = write_in_turns({"one": Slow("one"), "two": Slow("two")}, questions, lambda: float(next(ticks)))
    assert calls[:6] == [(name, n) for n in (64, 64, 6) for name in ("one", "two")]
    assert calls[6:] == [(name, 1) for _ in range(14) for name in ("one", "two")]
    one = found["one"]
    assert (one.characters_per_s, one.latency, one.passes) == (140 / 2, 1000.0, 3.0)
