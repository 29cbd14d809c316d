"""A run with a light decoder: its parts are timed apart, and the causal model in NumPy stands beside it."""

from pathlib import Path
from typing import Any

import pytest

from jepalm.config import HardwareConfig
from jepalm.errors import UsageError
from jepalm.evaluation.evaluate import evaluate
from jepalm.evaluation.rows import Evaluation
from jepalm.evaluation.settings import EvaluationSettings
from jepalm.evaluation.speed.writing import (
    IN_NUMPY,
    measure_writing,
    real_text,
    timed_model,
    untrained_counterpart,
)
from jepalm.generation import verify
from jepalm.generation.loading import TrainedModel, load_trained
from jepalm.generation.refine import Refining
from jepalm.generation.sampling import GREEDY
from jepalm.generation.verify import drafter_of
from jepalm.generation.writers import WritingOptions, writer_for

CPU = HardwareConfig(device="cpu", precision="fp32", threads=1)
LIGHT = {
    "model__decoder__kind": "local",
    "model__decoder__context": 2,
    "objective__generation__weight": 1.0,
    "objective__length__kind": "none",
}


@pytest.fixture(scope="module")
def runs(train_tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedModel]:
    shared = {"data__name": "windows", "training__steps": 1, "model__source_len": 4, "model__target_len": 12}
    parts = {f"model__{part}__n_layers": 4 for part in ("encoder", "predictor", "decoder")}
    causal = {"model__family": "causal", "model__causal__n_layers": 1, "model__causal__context_len": 16}
    folder = tmp_path_factory.mktemp("light")
    return {
        "light": load_trained(train_tiny(folder / "light", **shared, **LIGHT), hardware=CPU),
        "causal": load_trained(train_tiny(folder / "causal", **shared, **parts, **causal), hardware=CPU),
    }


@pytest.fixture(scope="module")
def evaluation(runs: dict[str, TrainedModel], data_root: Path) -> Evaluation:
    light, causal = runs["light"], runs["causal"]
    return evaluate(light, light.data(data_root), EvaluationSettings(n_prompts=2), baselines=[causal])


def test_costs_of_the_parts_are_rows_of_their_own(evaluation: Evaluation):
    for part in ("predicting", "decoding"):
        assert evaluation[f"cost/{part}_64"].values["model"] > 0
        assert list(evaluation[f"cost/{part}_1"].values) == ["model"]


def test_the_causal_baseline_in_numpy_is_a_control_of_the_costs(evaluation: Evaluation):
    for name in ("cost/latency", "cost/characters_per_s"):
        assert evaluation[name].controls[IN_NUMPY] > 0
        assert IN_NUMPY not in evaluation[name].values


def test_the_likelihood_stands_beside_other_embeddings_by_position(evaluation: Evaluation):
    first, second = evaluation["decoder/generation_ce_1_8"], evaluation["decoder/generation_ce_9_16"]
    whole = (8 * first.values["model"] + 4 * second.values["model"]) / 12
    assert evaluation["decoder/generation_ce"].values["model"] == pytest.approx(whole)
    assert set(first.controls) == {"another source's embeddings", "their mean"}


def test_bench_times_the_parts_and_numpy_at_each_batch_size(runs: dict[str, TrainedModel], data_root: Path):
    text = real_text(runs["light"].data(data_root), runs["light"])
    light, causal = timed_model(runs["light"], text), untrained_counterpart(runs["light"], text)
    speeds, _ = measure_writing(light, causal, text.prompts, 0.0)
    assert [set(speed.further) for speed in speeds] == [{IN_NUMPY}] * 2  # 64 tokens are several passages


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (WritingOptions(length_candidates=2), "its decoder ends a text itself"),
        (WritingOptions(refining=Refining(2)), "its decoder writes from left to right"),
        (WritingOptions(length=8, keep=0.5), "--keep 0.5 does nothing"),
    ],
)
def test_what_does_nothing_for_a_light_decoder_is_one_line(
    runs: dict[str, TrainedModel], options: WritingOptions, message: str
):
    with pytest.raises(UsageError, match=message):
        writer_for(runs["light"], options)


def test_a_light_decoder_drafts_fewer_tokens_than_a_passage(
    runs: dict[str, TrainedModel], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(verify, "DRAFTED", 5)
    assert [len(row) for row in drafter_of(runs["light"]).draft([[4, 5]], None, GREEDY)] == [5]
