"""Text of any length: passages after one another, and how much of each stays."""

from typing import Any

import pytest
import torch

from jepalm.config import HardwareConfig
from jepalm.errors import UsageError
from jepalm.generation import one_pass
from jepalm.generation.loading import TrainedModel, load_trained
from jepalm.generation.noise import GumbelNoise
from jepalm.generation.passage import Passage
from jepalm.generation.roll import PassageWriter, kept
from jepalm.generation.writer import GeneratedText, Prompt
from jepalm.generation.writers import passage_writer

CPU = HardwareConfig(device="cpu", precision="fp32", threads=1)
PROMPTS = [[5, 6, 7, 8], [4, 4, 4, 5, 5, 5, 9]]


def trained_for(train_tiny: Any, folder: Any, **settings: Any) -> TrainedModel:
    sizes = {"model__source_len": 6, "model__target_len": 4, "objective__length__kind": "none"}
    run = train_tiny(folder, data__name="windows", training__steps=1, **sizes, **settings)
    return load_trained(run, "last", CPU)


@pytest.fixture(scope="module")
def plain(train_tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return trained_for(train_tiny, tmp_path_factory.mktemp("plain"))


def rolled_after(prompts: list[list[int]], trained: TrainedModel, **settings: Any) -> GeneratedText:
    return passage_writer(trained, **settings).write([Prompt(row) for row in prompts])


def passage(log_probs: list[list[float]], lengths: list[int]) -> Passage:
    ids = torch.arange(1, 1 + len(log_probs[0])).expand(len(log_probs), -1)
    return Passage(ids, torch.tensor(lengths), torch.zeros(len(lengths), 1, 1), torch.tensor(log_probs))


def test_what_stays_of_a_passage():
    probabilities = torch.tensor([[0.9, 0.8, 0.5, 0.9], [0.1, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]).log()
    written = passage(probabilities.tolist(), [4, 4, 3])
    assert kept(written, None) == [[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3]]
    assert kept(written, 2) == [[1, 2], [1, 2], [1, 2]]
    assert kept(written, 0.7) == [[1, 2], [1], [1, 2, 3]]  # 0.9 * 0.8 = 0.72; one token at least
    assert kept(written, 0.35) == [[1, 2, 3], [1], [1, 2, 3]]
    assert kept(written, 0.05) == [[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3]]


def test_texts_have_their_length_and_passages_of_their_own(
    plain: TrainedModel, monkeypatch: pytest.MonkeyPatch
):
    seen, probabilities = [], iter([[0.9, 0.2], [0.1, 0.9], [0.9, 0.9]])
    real = one_pass.generate

    def generate(objective: Any, source: Any, **settings: Any) -> Passage:
        seen.append(source.ids.tolist())
        made = real(objective, source, **settings)
        first = torch.tensor(next(probabilities))[: len(made.ids), None].log()  # below 0.5: one token stays
        return Passage(made.ids, made.lengths, made.embeddings, first * torch.tensor([1.0, 0, 0, 0]))

    monkeypatch.setattr(one_pass, "generate", generate)
    rolled = rolled_after(PROMPTS, plain, length=6, keep=0.5)
    assert [len(row) for row in rolled.ids] == [6, 6]
    assert rolled.nfe == [3, 3]  # 4 + 1 + 1 of 4, and 1 + 4 + 1 of 4
    assert rolled.batch_nfe == len(rolled.passages) == 3
    texts = rolled.ids
    assert seen[1] == [[*PROMPTS[0], *texts[0][:4]][-6:], [*PROMPTS[1], texts[1][0]][-6:]]


def test_a_text_that_is_long_enough_is_written_no_further(
    plain: TrainedModel, monkeypatch: pytest.MonkeyPatch
):
    widths, real = [], one_pass.generate

    def generate(objective: Any, source: Any, **settings: Any) -> Passage:
        made = real(objective, source, **settings)
        widths.append(len(made.ids))
        log_probs = torch.zeros(made.ids.shape)
        log_probs[0, 1:] = (
            -9.0 if len(widths) < 3 and len(made.ids) == 2 else 0.0
        )  # the first text goes slowly
        return Passage(made.ids, made.lengths, made.embeddings, log_probs)

    monkeypatch.setattr(one_pass, "generate", generate)
    rolled = rolled_after(PROMPTS, plain, length=8, keep=0.5)
    assert widths == [2, 2, 1, 1]
    assert rolled.nfe == [4, 2]


def test_one_token_a_passage_is_a_passage_a_token(plain: TrainedModel):
    rolled = rolled_after(PROMPTS, plain, length=5, keep=1)
    assert rolled.nfe == [5, 5]


def test_a_position_keeps_its_noise_however_often_it_is_written(
    plain: TrainedModel, random_objective: Any, monkeypatch: pytest.MonkeyPatch
):
    reads = {"model__predictor__noise": "gumbel", "model__predictor__intermediate_logits": "true"}
    settings = {"objective__coupling__teacher": "any", "objective__length__kind": "none"}
    objective = random_objective(**reads, **settings).eval()
    noise = GumbelNoise(3, objective.vocab_size)
    drawn, real = [], one_pass.generate

    def generate(objective: Any, source: Any, **settings: Any) -> Passage:
        drawn.append(settings["noise"])
        return real(objective, source, **settings)

    monkeypatch.setattr(one_pass, "generate", generate)
    width = objective.model.config.target_len
    rolling: dict[str, Any] = {"length": width + 1, "keep": 3, "temperature": 1.0}
    writer = PassageWriter("tiny", objective, plain.hardware, **rolling)
    writer.write([Prompt(row) for row in PROMPTS], seed=3)
    assert len(drawn) > 2
    assert torch.equal(drawn[0], noise.at([0, 1], [0, 0], width))
    assert torch.equal(drawn[0][:, 3:], drawn[1][:, :-3])


def test_a_length_beyond_a_passage_takes_several(plain: TrainedModel, continue_text: Any):
    whole = continue_text(plain, "abcde", length=10, temperature=1.0, seed=5)
    assert (len(whole.text[0]), whole.nfe) == (10, 3)
    cut = continue_text(plain, "abcde", length=10, temperature=1.0, seed=5, keep=2)
    assert (len(cut.text[0]), cut.nfe) == (10, 5)
    assert cut.text[0][:2] == whole.text[0][:2]
    again = continue_text(plain, "abcde", length=10, temperature=1.0, seed=5, keep=2)
    other = continue_text(plain, "abcde", length=10, temperature=1.0, seed=6, keep=2)
    assert again.text == cut.text != other.text


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"length": 10, "passages": 2}, "a length of 10 tokens takes as many passages as it needs"),
        ({"length": 10, "keep": 4}, "writes 4 tokens a passage: 4 is all of them"),
        ({"keep": 2}, "only a JEPALM of windows keeps a part of its passages"),
    ],
)
def test_what_does_nothing_is_refused(
    plain: TrainedModel, settings: dict[str, Any], why: str, continue_text: Any
):
    with pytest.raises(UsageError, match=why):
        continue_text(plain, "abcde", **settings)


def test_a_model_of_lines_keeps_all(trained_run: Any, continue_text: Any):
    lines = load_trained(trained_run, "last", CPU)
    with pytest.raises(UsageError, match="only a JEPALM of windows keeps"):
        continue_text(lines, "ab", length=3, keep=2)


def test_a_text_is_passages_after_one_another_each_read_with_what_stands_before(plain: TrainedModel):
    prompts, texts = [[5, 6, 7, 8, 9, 10], [4, 4, 4, 5, 5, 5]], [[], []]
    for _ in range(3):
        read = [prompt + text for prompt, text in zip(prompts, texts, strict=True)]
        new = rolled_after(read, plain).ids
        texts = [text + more for text, more in zip(texts, new, strict=True)]
    rolled = rolled_after(prompts, plain, length=10)
    assert rolled.ids == [text[:10] for text in texts]
    assert rolled.mean_nfe == 3


def test_the_last_passage_has_no_more_positions_than_are_left(plain: TrainedModel):
    rolled = rolled_after(PROMPTS, plain, length=6, passage_length=4)
    assert [made.lengths.tolist() for made in rolled.passages] == [[4, 4], [2, 2]]


def test_batches_are_joined(plain: TrainedModel):
    whole, parts = (rolled_after(PROMPTS, plain, length=6, batch_size=n) for n in (2, 1))
    assert (whole.ids, whole.nfe) == (parts.ids, parts.nfe)
    assert (whole.batch_nfe, parts.batch_nfe) == (2, 4)
