"""A light decoder with an n-gram expert: what it writes, learns and keeps."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_objective import MODEL, TARGET_LEN, VOCABULARY

import jepalm
from jepalm.config import ModelConfig, ObjectiveConfig, resolve
from jepalm.data.batches import Batch, Batches, Tokens, pad_rows
from jepalm.data.compatibility import check_data
from jepalm.data.ngram import NGram
from jepalm.data.ngram_expert import NGRAM, NGramExpert
from jepalm.data.prepared import open_prepared
from jepalm.errors import UsageError
from jepalm.generation.export import write_model
from jepalm.generation.left_to_right import LeftToRight
from jepalm.generation.loading import load_folder, load_trained
from jepalm.generation.one_pass import generate
from jepalm.generation.onnx_export import check_onnx
from jepalm.objective.jepalm import JepalmObjective
from jepalm.session import new_session, resumed_session

SOURCES = [[5, 6, 7], [4, 9, 8, 7, 6, 5, 4, 3, 9, 10], [11]]
KINDS = {
    "the decoder sees less": {"kind": "local", "context": 1, "dim": 24, "ngram": 4},
    "the decoder sees more": {"kind": "local", "context": 8, "dim": 24, "ngram": 3},
    "recurrent": {"kind": "recurrent", "context": 2, "dim": 24, "ngram": 5},
}
LIGHT = {"model__decoder__kind": "recurrent", "objective__length__kind": "none"}
WEIGHT = "model.decoder.ngram_weight"


def objective_of(decoder: dict[str, Any], *, packing: bool = False) -> JepalmObjective:
    model = ModelConfig.model_validate({**MODEL, "decoder": decoder})
    terms = ObjectiveConfig.model_validate({"length": {"kind": "none"}, "generation": {"weight": 1.0}})
    objective = JepalmObjective(model, terms, VOCABULARY, packing=packing).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in objective.parameters():
        parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    objective.model.decoder.ngram_weight.data.fill_(1)  # type: ignore[union-attr]
    text = np.random.default_rng(0).integers(3, VOCABULARY, 400)
    objective.expert = NGramExpert(NGram.fit(text, VOCABULARY, decoder["ngram"]))
    return objective


def log_probs_of(objective: JepalmObjective, passage: Any) -> torch.Tensor:
    """Log-probabilities (B, T) of what was written, by the forward pass that training and validation take."""
    source, target = pad_rows(SOURCES, torch.device("cpu")), Tokens(passage.ids, passage.lengths)
    batch = Batch(source, target, None, len(SOURCES), int(target.lengths.sum()))
    views = objective.encode_and_predict(batch)
    logits = objective.decode(views.predicted, views.target_layout, views.context)
    logits = views.target_layout.pad(logits)  # (B, T, V)
    logits[..., :3] = float("-inf")
    return logits.log_softmax(-1).gather(-1, passage.ids[..., None]).squeeze(-1)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_loop_says_of_its_text_what_the_forward_pass_says(kind: str, packing: bool):
    objective = objective_of(KINDS[kind], packing=packing)
    source, generator = pad_rows(SOURCES, torch.device("cpu")), torch.Generator().manual_seed(1)
    passage = generate(
        objective, source, temperature=1.0, generator=generator, method=LeftToRight(ends=False)
    )
    assert passage.lengths.tolist() == [TARGET_LEN] * 3
    assert torch.allclose(passage.log_probs, log_probs_of(objective, passage), atol=1e-5)
    objective.model.decoder.ngram_weight.data.fill_(0)  # type: ignore[union-attr]
    assert not torch.allclose(passage.log_probs, log_probs_of(objective, passage), atol=0.1)


def test_beams_read_the_expert_too():
    objective, method = objective_of(KINDS["recurrent"]), LeftToRight(beams=3)
    rows = [pad_rows([source], torch.device("cpu")) for source in SOURCES]
    together = generate(objective, pad_rows(SOURCES, torch.device("cpu")), method=method).rows()
    assert together == [generate(objective, row, method=method).rows()[0] for row in rows]
    objective.model.decoder.ngram_weight.data.fill_(20)  # type: ignore[union-attr]
    assert together != generate(objective, pad_rows(SOURCES, torch.device("cpu")), method=method).rows()


def test_a_decoder_that_says_nothing_itself_costs_what_the_counts_without_the_fold_cost(
    tiny_config: Any, data_root: Path
):
    settings = {"model__decoder__ngram": 3, "objective__generation__weight": 1}
    config = tiny_config(**LIGHT, **settings, data__name="windows")
    with new_session(config, data_root) as session:
        objective, (batch,) = session.objective, session.batches.at(0)
        assert isinstance(objective, JepalmObjective)
        assert objective.expert is not None
        decoder: Any = objective.train().model.decoder
        decoder.vocabulary.weight.data.zero_()
        decoder.vocabulary.bias.data.zero_()
        decoder.ngram_weight.data.fill_(1)
        views = objective.encode_and_predict(batch)
        assert views.context is not None
        counts = objective.expert.log_probs(views.context.previous, batch.target.in_stream)
        expected = -counts.gather(-1, batch.target.ids[..., None]).mean()
        terms = objective(batch).terms
    torch.testing.assert_close(terms["generation"], expected)


@pytest.fixture(scope="module")
def run(train_tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run on windows, in two phases, with micro batches."""
    phases = "[{name: one, share: 1, terms: [decoder_lm], train: [decoder]}, {name: two, share: 1}]"
    changed = {"objective__decoder_lm__weight": 1, "objective__generation__weight": 1, "model__dropout": 0.1}
    changed |= {"training__phases": phases, "training__micro_batch_size": 2, "data__name": "windows"}
    return train_tiny(tmp_path_factory.mktemp("runs"), **LIGHT, **changed, model__decoder__ngram=3)


def test_the_weight_of_the_expert_is_learned(run: Any):
    learned = load_trained(run).objective.state_dict()[WEIGHT]
    assert abs(float(learned) - 0.5) > 1e-4


def test_a_run_and_its_export_write_the_same_without_the_data(run: Any, tmp_path: Path):
    trained = load_trained(run)
    write_model(trained, tmp_path)
    texts = [jepalm.load(path, device="cpu").generate(["1 abc"], seed=2) for path in (run.path, tmp_path)]
    assert texts[0] == texts[1]
    assert (tmp_path / NGRAM).read_bytes() == (run.path / NGRAM).read_bytes()
    with pytest.raises(UsageError, match=r"decodes with model\.decoder\.ngram, whose counts are no ONNX"):
        check_onnx(trained)


def test_counts_that_are_gone_are_missed_by_loading_and_by_resuming(
    run: Any, data_root: Path, tmp_path: Path
):
    copy = shutil.copytree(run.path, tmp_path / "copy", symlinks=True)
    (copy / NGRAM).unlink()
    with pytest.raises(UsageError, match=r"copy has no ngram\.safetensors, the counts"):
        load_folder(copy)
    with (
        pytest.raises(UsageError, match=r"copy has no ngram\.safetensors, the counts"),
        resumed_session(copy, {}, ["training.steps=12"], data_root),
    ):
        pass


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["model.decoder.ngram=5"], "model.decoder.ngram does nothing with model.decoder.kind=parallel"),
        (["model.decoder.ngram=9"], "model.decoder.ngram=9"),
        (
            [
                "model.decoder.kind=local",
                "model.decoder.context=2",
                "model.decoder.ngram=6",
                "model.source_len=4",
            ],
            "model.decoder.ngram 6 is longer than model.source_len 4",
        ),
    ],
)
def test_an_order_that_does_not_go_is_refused_in_one_line(settings: list[str], line: str):
    with pytest.raises(UsageError) as caught:
        resolve("nano", overrides=[*settings, "objective.length.kind=none"])
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {"pairing": "pairs"},
            "model.decoder.ngram counts targets, and objective.decoder_lm reads the sources",
        ),
        ({"tokens": 10**9}, "windows has 1,000,000,000 training tokens, model.decoder.ngram counts at most"),
        (
            {"vocab_size": 50_000},
            "windows has 50,000 tokens in the vocabulary, model.decoder.ngram counts at",
        ),
    ],
)
def test_data_that_is_not_counted_is_refused_in_one_line(
    tiny_config: Any, data_root: Path, changed: dict[str, Any], line: str
):
    prepared = open_prepared("windows", data_root)
    meta = prepared.meta
    train = meta.splits["train"].model_copy(update={"tokens": changed.get("tokens", 100)})
    asked = meta.request.model_copy(update={"pairing": changed.get("pairing", "windows")})
    update = {"request": asked, "splits": {**meta.splits, "train": train}}
    prepared.meta = meta.model_copy(
        update={**update, "vocab_size": changed.get("vocab_size", meta.vocab_size)}
    )
    config = tiny_config(
        **LIGHT, model__decoder__ngram=3, data__name="windows", objective__decoder_lm__weight=1
    )
    with pytest.raises(UsageError) as caught:
        check_data(config, prepared)
    assert str(caught.value).startswith(line)


def test_a_model_without_an_expert_is_as_ever(data_root: Path):
    decoder = {"kind": "recurrent", "context": 2, "dim": 24}
    torch.manual_seed(0)
    terms = ObjectiveConfig.model_validate({"length": {"kind": "none"}})
    plain, with_expert = (
        JepalmObjective(ModelConfig.model_validate({**MODEL, "decoder": one}), terms, VOCABULARY)
        for one in (decoder, {**decoder, "ngram": 5})
    )
    assert with_expert.state_dict().keys() - plain.state_dict().keys() == {WEIGHT}
    batches = Batches(
        open_prepared("windows", data_root).split("train"),
        batch_size=4,
        source_len=12,
        target_len=12,
        seed=0,
        device="cpu",
    )
    assert batches.at(0)[0].source.start is None
