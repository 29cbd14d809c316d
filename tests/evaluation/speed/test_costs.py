"""What a text costs, beside several baselines and a verifier."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from jepalm.config import HardwareConfig
from jepalm.evaluation.evaluate import evaluate
from jepalm.evaluation.rows import Evaluation
from jepalm.evaluation.settings import EvaluationSettings
from jepalm.evaluation.speed.costs import ALONE, AT_ONCE, measure_costs
from jepalm.generation.loading import TrainedModel, load_trained
from jepalm.generation.writer import GeneratedText
from jepalm.report.analysis.evaluation import columns, header

CPU = HardwareConfig(device="cpu", precision="fp32", threads=1)


@pytest.fixture(scope="module")
def runs(train_tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedModel]:
    shared = {"data__name": "windows", "training__steps": 1}
    sizes = {"model__source_len": 4, "model__target_len": 8, "objective__length__kind": "none"}
    parts = {f"model__{part}__n_layers": 4 for part in ("encoder", "predictor", "decoder")}
    causal = {"model__family": "causal", "model__causal__n_layers": 1, "model__causal__context_len": 10}
    folder = tmp_path_factory.mktemp("costs")
    return {
        "model": load_trained(train_tiny(folder / "model", **shared, **sizes), hardware=CPU),
        "causal": load_trained(train_tiny(folder / "causal", **shared, **parts, **causal), hardware=CPU),
    }


@pytest.fixture(scope="module")
def evaluation(runs: dict[str, TrainedModel], data_root: Path) -> Evaluation:
    model, causal = runs["model"], runs["causal"]
    return evaluate(
        model,
        model.data(data_root),
        EvaluationSettings(n_prompts=3),
        baselines=[causal, model],
        verifier=causal,
    )


def test_verified_texts_are_the_causal_runs_own(evaluation: Evaluation):
    for row in evaluation.rows:
        if row.group in ("scorer", "text", "brier") and "verified" in row.values:
            own = pytest.approx(row.values["baseline"], rel=1e-12, nan_ok=True)
            assert row.values["verified"] == own
            assert row.values["verified_ngram"] == own
    assert evaluation["scorer/nll"].values["verified"] != evaluation["scorer/nll"].values["model"]


def test_another_baseline_is_a_column_of_its_own(evaluation: Evaluation):
    for name in ("scorer/gap", "text/characters", "brier/score_1"):
        values = evaluation[name].values
        assert values["baseline_2"] == pytest.approx(values["model"], rel=1e-12)


def test_passes_of_every_column(evaluation: Evaluation):
    passes = evaluation["cost/passes"].values
    one_each = {"model": 1, "baseline_2": 1, "baseline": 8, "ngram": 8}
    assert {name: passes[name] for name in one_each} == one_each
    assert 2 <= passes["verified"] <= 16
    assert 1 <= passes["verified_ngram"] <= 8
    for name in ("cost/latency", "cost/characters_per_s"):
        assert evaluation[name].values.keys() == passes.keys()
        assert all(value > 0 for value in evaluation[name].values.values())


def test_the_file_reads_back_and_names_all(evaluation: Evaluation, runs: dict[str, TrainedModel]):
    read = Evaluation.from_json(json.loads(json.dumps(evaluation.as_json())))
    assert (read.further, read.verified) == ([runs["model"].run.name], runs["causal"].run.name)
    shown = ["model", "verified", "verified 5-gram", "real", "5-gram", "baseline", "baseline 2"]
    assert list(columns(read).values()) == shown
    assert read["cost/passes"].values == evaluation["cost/passes"].values
    shown = header(read)
    for text in (f"baseline: {runs['causal'].run.name}", f"baseline 2: {runs['model'].run.name}"):
        assert text in shown
    checks = "which checks what model or 5-gram drafts"
    assert f"verified: text of {runs['causal'].run.name}, {checks}" in shown


class Slow:
    """Writes as many tokens as are asked, and takes a time on the test's clock."""

    name = "slow"

    def __init__(self, clock: list[float], seconds: float) -> None:
        self.clock, self.seconds = clock, seconds
        self.asked: list[int] = []

    def write(self, prompts: Any, *, seed: int, lengths: Any = None) -> GeneratedText:
        self.asked.append(len(prompts))
        self.clock[0] += self.seconds * len(prompts)
        return GeneratedText([[5] * n for n in lengths], list(range(1, 1 + len(prompts))), 0)


def test_times_and_speeds_worked_out_by_hand(runs: dict[str, TrainedModel]):
    clock = [0.0]
    writers = {"quick": Slow(clock, 0.002), "slow": Slow(clock, 0.004)}
    costs = measure_costs(
        writers,
        [[3], [4], [5], [6]],
        [4, 4, 4, 4],
        runs["model"].tokenizer,
        lambda: None,
        seed=0,
        clock=lambda: clock[0],
    )
    assert costs["cost/passes"] == {"quick": 2.5, "slow": 2.5}  # of 1, 2, 3 and 4
    assert costs["cost/latency"] == pytest.approx({"quick": 2.0, "slow": 4.0})
    assert costs["cost/characters_per_s"] == pytest.approx({"quick": 4 / 0.002, "slow": 4 / 0.004})
    counted = [(n, len(list(found))) for n, found in itertools.groupby(writers["quick"].asked)]
    assert counted == [(4, 1), (1, ALONE + 1), (AT_ONCE, 4)]
