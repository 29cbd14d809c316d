"""Held-out figures of a causal model, and the score of a whole text."""

import numpy as np
import pytest
import torch

from jepalm.config import from_mapping
from jepalm.data.batches import Batches
from jepalm.data.prepared import Shard, Split
from jepalm.data.tokenizer import byte_tokenizer, char_tokenizer
from jepalm.errors import UsageError
from jepalm.evaluation.text.stream import score_stream
from jepalm.evaluation.validation.causal import count_characters
from jepalm.evaluation.validation.held_out import HeldOut
from jepalm.objective.causal import CausalObjective

TEXT = "".join(f"{number} is {'odd' if number % 2 else 'even'}\n" for number in range(30))
TOKENIZER = char_tokenizer()
CONTEXT = 16


@pytest.fixture
def objective():
    causal = {"n_layers": 2, "context_len": CONTEXT}
    config = from_mapping({"model": {"family": "causal", "dim": 16, "n_heads": 2, "causal": causal}})
    torch.manual_seed(3)
    built = CausalObjective(config.model, config.objective, TOKENIZER.vocab_size).eval()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return built


def windows():
    shard = Shard(np.array(TOKENIZER.encode(TEXT), dtype=np.uint16), {})
    split = Split("validation", "windows", [shard], has_action=False)
    return Batches(split, batch_size=4, source_len=1, target_len=CONTEXT, seed=0, device="cpu").fixed(3)


def test_held_out_figures_are_those_of_one_window_at_a_time(objective):
    batches = windows()
    with torch.no_grad():
        values = HeldOut(batches, TOKENIZER, 0)(objective).values
    nats, right, count = 0.0, 0, 0
    objective.double()
    for batch in batches:
        for source, target in zip(batch.source.ids, batch.target.ids, strict=True):
            text = torch.cat((source, target))
            probabilities = objective.model(text[None, :-1])[0].log_softmax(-1)
            nats -= float(probabilities.gather(1, text[1:, None]).sum().detach())
            right += int((probabilities.argmax(-1) == text[1:]).sum())
            count += len(target)
    assert values["validation/next_token_ce"] == pytest.approx(nats / count, abs=1e-5)
    assert values["validation/nats_per_character"] == pytest.approx(nats / count, abs=1e-5)
    assert values["validation/next_token_accuracy"] == right / count


def test_samples_go_on_from_the_first_half_of_a_window(objective):
    with torch.no_grad():
        samples = HeldOut(windows(), TOKENIZER, 3)(objective).samples
    assert len(samples) == 3
    first = TEXT[: len(samples[0][0]) + len(samples[0][1])]
    assert samples[0][0] + samples[0][1] == first
    assert {len(text) for sample in samples for text in sample} == {CONTEXT // 2}


def test_characters_are_counted_in_text_not_in_tokens():
    chars, read = TOKENIZER, byte_tokenizer()
    assert count_characters(torch.tensor([*chars.encode("odd"), chars.UNK, chars.END]), chars) == 4
    assert count_characters(torch.tensor(read.encode("é€")), read) == 2


def reference_nats(objective, ids, first, stride):
    """Nats of tokens from `first`, each window on its own, in float64."""
    nats = []
    objective.double()
    for start in range(first, len(ids), stride):
        end = min(start + stride, len(ids))
        begin = max(0, end - 1 - CONTEXT)
        probabilities = objective.model(torch.tensor([ids[begin : end - 1]]))[0].log_softmax(-1).detach()
        nats += [-float(probabilities[place - begin - 1, ids[place]]) for place in range(start, end)]
    objective.float()
    return nats


@pytest.mark.parametrize("stride", [CONTEXT, 5, 1])
@pytest.mark.parametrize("first", [1, 7, 40])
def test_every_token_of_a_stream_is_scored_once(objective, first, stride):
    ids = TOKENIZER.encode(TEXT[:77])
    score = score_stream(objective, ids, first=first, stride=stride, batch_size=3)
    assert len(score.nats) == 77 - first
    np.testing.assert_allclose(score.nats, reference_nats(objective, ids, first, stride), rtol=0, atol=1e-5)
    assert score.mean == pytest.approx(score.nats.mean())


def test_a_stream_shorter_than_the_context_is_scored(objective):
    ids = TOKENIZER.encode("12 is")
    assert len(score_stream(objective, ids).nats) == 4


@pytest.mark.parametrize(("first", "stride"), [(0, 1), (5, 1), (1, 0), (1, CONTEXT + 1)])
def test_a_stretch_that_cannot_be_scored_is_told(objective, first, stride):
    with pytest.raises(UsageError):
        score_stream(objective, [3, 4, 5, 6, 7], first=first, stride=stride)
