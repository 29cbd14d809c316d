from collections.abc import Callable
from typing import Any

import pytest
import torch

from jepalm.config import HardwareConfig
from jepalm.data.batches import Batch
from jepalm.errors import UsageError
from jepalm.evaluation.text.infilling import gapped_batches
from jepalm.generation.infill import fill, gapped_views, infill, read_gaps
from jepalm.generation.loading import TrainedModel, load_trained
from jepalm.generation.prompts import read_prompt

CPU = HardwareConfig(device="cpu", precision="fp32", threads=1)


@pytest.fixture(scope="module")
def spans(train_tiny: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    run = train_tiny(
        tmp_path_factory.mktemp("spans"),
        data__name="spans",
        objective__length__kind="none",
        objective__local__weight=1.0,
    )
    return load_trained(run, "last", CPU)


@pytest.fixture
def batch(spans: TrainedModel, data_root: Any) -> Batch:
    return gapped_batches(spans, spans.data(data_root).split("train"), 16)[0]


def test_an_underscore_is_a_masked_place(spans: TrainedModel):
    gapped = read_gaps(spans, "a__b_")
    a, b = spans.tokenizer.encode("ab")
    mask = spans.tokenizer.vocab_size - 1
    assert gapped.ids == [a, mask, mask, b, mask]
    assert gapped.places == [1, 2, 4]


def test_only_the_gaps_are_filled_and_by_as_many_characters(spans: TrainedModel):
    texts, passage = fill(spans, read_gaps(spans, "_ab__c\nd"), samples=40, temperature=5.0)
    assert passage.lengths.tolist() == [3] * 40
    for filled in texts:
        assert [len(part) for part in filled.filled] == [1, 2]  # a special token would show nothing
        assert filled.text == f"{filled.filled[0]}ab{filled.filled[1]}c\nd"
    assert len({filled.text for filled in texts}) > 30


def test_a_text_is_filled_in_one_pass(spans: TrainedModel, monkeypatch: pytest.MonkeyPatch):
    calls = []
    for name in ("encoder", "predictor", "decoder"):
        part = getattr(spans.objective.model, name)

        def counted(*args: Any, name: str = name, forward: Any = part.forward) -> Any:
            calls.append(name)
            return forward(*args)

        monkeypatch.setattr(part, "forward", counted)
    fill(spans, read_gaps(spans, "a_b__c"), samples=3)
    assert calls == ["encoder", "predictor", "decoder"]


def test_at_temperature_zero_each_place_has_the_decoders_most_likely_text(spans: TrainedModel, batch: Batch):
    objective: Any = spans.objective
    written = infill(objective, batch.source, batch.target, excluded=spans.tokenizer.special_ids)
    with torch.no_grad():
        views = objective.encode_and_predict(batch)
        logits = views.target_layout.pad(objective.model.decoder(views.predicted, views.target_layout))
    assert torch.equal(written.ids, logits[..., 3:-1].argmax(-1) + 3)


def test_views_of_unequal_texts_are_padded_and_keep_their_places():
    source, target = gapped_views([[5, 9, 6], [9, 7]], [[1], [0]], torch.device("cpu"))
    assert source.ids.tolist() == [[5, 9, 6], [9, 7, 0]]
    assert target.places is not None
    assert target.places.tolist() == [[1], [0]]
    assert (source.lengths.tolist(), target.lengths.tolist()) == ([3, 2], [1, 1])


def test_draws_follow_the_seed(spans: TrainedModel):
    gapped = read_gaps(spans, "a____b")
    one, again, other = (
        [filled.text for filled in fill(spans, gapped, samples=3, temperature=2.0, seed=seed)[0]]
        for seed in (1, 1, 2)
    )
    assert one == again != other


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "the text has no gap to fill"),
        ("", "the text has no gap to fill"),
        ("___", "nothing but a gap"),
        ("ab_" * 5, "the text has 15 tokens, more than the 12 that this model reads"),
        ("aé_", r"outside the model's alphabet: 'é' \(U\+00E9\)"),
    ],
)
def test_texts_that_cannot_be_filled_are_refused(spans: TrainedModel, text: str, message: str):
    with pytest.raises(UsageError, match=message):
        read_gaps(spans, text)


def test_a_run_of_another_pairing_fills_no_gaps_and_says_which_does(lines: TrainedModel):
    with pytest.raises(UsageError, match=r"was trained on lines and fills no gaps .*--pairing spans"):
        read_gaps(lines, "a_b")


def test_a_run_of_spans_continues_no_prompt(spans: TrainedModel):
    with pytest.raises(UsageError, match=r"fills gaps in a text and does not continue one .*jepalm infill"):
        read_prompt(spans, "ab")
