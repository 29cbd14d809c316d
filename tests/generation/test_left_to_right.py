"""A light decoder writes token by token what its forward pass says of the same text."""

from functools import partial
from typing import Any

import pytest
import torch
from tiny_objective import CPU, MODEL, TARGET_LEN, VOCABULARY

from jepalm.config import ModelConfig, ObjectiveConfig
from jepalm.data.batches import Tokens, pad_rows
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import UsageError
from jepalm.generation.infill import gapped_views, infill
from jepalm.generation.left_to_right import LeftToRight, choose
from jepalm.generation.loading import load_trained
from jepalm.generation.one_pass import generate
from jepalm.generation.passage import Passage
from jepalm.generation.roll import PassageWriter
from jepalm.generation.sampling import Sampling
from jepalm.generation.writer import Prompt
from jepalm.generation.writers import WritingOptions, writer_for
from jepalm.model.decoder import DecoderContext
from jepalm.objective.jepalm import JepalmObjective

KINDS = {
    "m = 0": {"kind": "local", "context": 0, "dim": 24},
    "m = 1": {"kind": "local", "context": 1, "dim": 24},
    "m = 8": {"kind": "local", "context": 8, "dim": 24},
    "recurrent": {"kind": "recurrent", "context": 5, "dim": 24},
    "positions": {"kind": "local", "context": 2, "dim": 24, "embeddings": "positions"},
}
SOURCES = [[5, 6, 7], [4, 9, 8, 7, 6, 5, 4, 3, 9, 10], [11]]
FORMS = pytest.mark.parametrize("packing", [True, False])
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def light_objective(kind: str, *, packing: bool = True) -> JepalmObjective:
    """A model with a light decoder and drawn weights, so that its texts depend on everything it reads."""
    model = ModelConfig.model_validate({**MODEL, "decoder": KINDS[kind]})
    objective_config = ObjectiveConfig.model_validate({"length": {"kind": "none"}})
    objective = JepalmObjective(model, objective_config, VOCABULARY, packing=packing).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in objective.parameters():
        parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return objective


def forward_log_probs(objective: JepalmObjective, previous: Any, passage: Passage, source: Tokens) -> Any:
    """Log-probabilities (B, T) of written tokens by the decoder's forward pass on the written text."""
    embeddings, layout = objective.encode_source(source)
    target = objective.layout(Tokens(passage.ids, passage.lengths))
    last = torch.stack([layout.pad(embeddings)[row, n - 1] for row, n in enumerate(source.lengths)])
    predicted = target.pack(passage.embeddings)
    logits = objective.model.decoder(predicted, target, DecoderContext(previous, last))
    logits = target.pad(logits)  # (B, T, V)
    logits[..., :3] = float("-inf")
    found = logits.log_softmax(-1).gather(-1, passage.ids[..., None]).squeeze(-1)
    return found.masked_fill(~target.mask, 0.0)


def tokens_before(sources: list[list[int]], passage: Passage, m: int) -> Any:
    texts = [[0] * m + source + row for source, row in zip(sources, passage.ids.tolist(), strict=True)]
    return torch.tensor(
        [
            [
                [text[m + len(source) + place - k] for k in range(1, m + 1)]
                for place in range(passage.ids.shape[1])
            ]
            for source, text in zip(sources, texts, strict=True)
        ]
    ).view(*passage.ids.shape, m)


@FORMS
@EVERY_KIND
def test_the_loops_log_probabilities_are_those_of_the_decoders_forward_pass(kind: str, packing: bool):
    objective = light_objective(kind, packing=packing)
    source, m = pad_rows(SOURCES, torch.device("cpu")), KINDS[kind]["context"]
    generator = torch.Generator().manual_seed(1)
    method = LeftToRight(ends=False)
    passage = generate(objective, source, temperature=1.0, generator=generator, method=method)
    assert passage.lengths.tolist() == [TARGET_LEN] * 3
    with torch.no_grad():
        expected = forward_log_probs(objective, tokens_before(SOURCES, passage, m), passage, source)
    assert torch.allclose(passage.log_probs, expected, atol=1e-5)


@EVERY_KIND
def test_a_text_does_not_depend_on_the_batch_it_is_written_in(kind: str):
    objective, prompts = light_objective(kind), [Prompt(source) for source in SOURCES]
    settings: Any = {"method": LeftToRight(ends=False), "temperature": 1.0, "passages": 2}
    together, alone = (
        PassageWriter("run", objective, CPU, batch_size=size, **settings).write(prompts, seed=3).ids
        for size in (3, 1)
    )
    assert together == alone


def test_the_most_likely_texts_do_not_depend_on_their_order():
    writer = PassageWriter("run", light_objective("recurrent"), CPU, method=LeftToRight())
    prompts = [Prompt(source) for source in SOURCES]
    assert writer.write(prompts).ids == writer.write(prompts[::-1]).ids[::-1]


def test_one_prompts_samples_differ_and_a_seed_repeats_them():
    writer = PassageWriter("run", light_objective("m = 8"), CPU, method=LeftToRight(), temperature=1.0)
    first, second = (writer.write([Prompt(SOURCES[1])] * 4, seed=5).ids for _ in range(2))
    assert first == second
    assert len(set(map(tuple, first))) == 4


def likelihood(objective: JepalmObjective, source: list[int], passage: Passage, text: list[int]) -> float:
    """Log-probability of a text and its end by the decoder's forward pass on a passage's embeddings."""
    ids = torch.tensor([[*text, TextTokenizer.END][:TARGET_LEN]])
    n = ids.shape[1]
    whole = Passage(ids, torch.tensor([n]), passage.embeddings[:, :n], passage.log_probs)
    embeddings, layout = objective.encode_source(pad_rows([source], torch.device("cpu")))
    target = objective.layout(Tokens(ids, whole.lengths))
    m = objective.model.config.decoder.n_previous
    last = layout.pad(embeddings)[:, len(source) - 1]
    context = DecoderContext(tokens_before([source], whole, m), last)
    logits = objective.model.decoder(target.pack(whole.embeddings), target, context)
    logits[..., [TextTokenizer.PAD, TextTokenizer.UNK]] = float("-inf")
    logits[:, 0, TextTokenizer.END] = float("-inf")
    return float(logits.log_softmax(-1).gather(-1, ids[..., None]).sum())


@pytest.mark.parametrize("kind", ["m = 1", "recurrent"])
def test_beams_find_texts_as_likely_as_the_greedy_ones_or_likelier(kind: str):
    objective, likelier = light_objective(kind, packing=False), 0
    for source in ([5, 6, 7], [4, 9, 8, 7], [11], [3, 3, 12], [18, 4], [6]):
        rows = pad_rows([source], torch.device("cpu"))
        full = generate(objective, rows, method=LeftToRight(ends=False))  # embeddings of all positions
        texts = [generate(objective, rows, method=LeftToRight(beams=n)).rows()[0] for n in (1, 4)]
        with torch.no_grad():
            greedy, found = (likelihood(objective, source, full, text) for text in texts)
        assert found >= greedy - 1e-5
        likelier += found > greedy + 1e-3
    assert likelier > 0


def test_beams_of_a_batch_are_those_of_each_text_alone():
    objective, method = light_objective("recurrent"), LeftToRight(beams=3)
    rows = [pad_rows([source], torch.device("cpu")) for source in SOURCES]
    together = generate(objective, pad_rows(SOURCES, torch.device("cpu")), method=method).rows()
    assert together == [generate(objective, row, method=method).rows()[0] for row in rows]


def test_beams_are_refused_where_there_are_none(trained_run: Any):
    trained = load_trained(trained_run)  # of a parallel decoder
    with pytest.raises(UsageError, match="has no beams to search"):
        writer_for(trained, WritingOptions(beams=2))


def test_a_text_ends_at_the_end_token_and_has_one_token_at_least():
    objective = light_objective("m = 1")
    bias = objective.model.decoder.vocabulary.bias.data
    bias[TextTokenizer.END] = 100.0
    bias[7] = 50.0
    passage = generate(objective, pad_rows(SOURCES, torch.device("cpu")))
    assert passage.rows() == [[7], [7], [7]]
    endless = generate(objective, pad_rows(SOURCES, torch.device("cpu")), method=LeftToRight(ends=False))
    assert endless.rows() == [[7] * TARGET_LEN] * 3


def test_no_special_token_is_written_but_the_end():
    objective = light_objective("m = 0")
    objective.model.decoder.vocabulary.bias.data[:2] = 100.0
    passage = generate(objective, pad_rows(SOURCES, torch.device("cpu")))
    assert all(token > TextTokenizer.END for row in passage.rows() for token in row)


@pytest.mark.parametrize(
    "sampling", [Sampling(0.0), Sampling(0.7), Sampling(1.3, top_k=3), Sampling(1.0, top_p=0.6)]
)
def test_numpy_chooses_as_torch_does(sampling: Sampling):
    generator = torch.Generator().manual_seed(2)
    logits, noise = (torch.randn(50, 9, generator=generator) for _ in range(2))
    expected = sampling.choose(logits, noise).tolist()
    assert choose(sampling, logits.numpy().copy(), noise.numpy()).tolist() == expected


@pytest.mark.parametrize("kind", ["m = 8", "recurrent"])
def test_gaps_are_filled_from_left_to_right_with_what_was_filled_as_context(kind: str):
    objective, mask = light_objective(kind), VOCABULARY - 1
    rows, places = [[5, 6, mask, mask, 7, mask, 8], [mask, 9, 9, 4]], [[2, 3, 5], [0]]
    source, target = gapped_views(rows, places, torch.device("cpu"))
    passage = infill(objective, source, target, excluded=[0, 1, 2, mask])
    m = KINDS[kind]["context"]
    filled = [list(row) for row in rows]
    for row, at, written in zip(filled, places, passage.rows(), strict=True):
        for place, token in zip(at, written, strict=True):
            row[place] = token
    previous = torch.zeros(2, 3, m, dtype=torch.long)
    for number, (row, at) in enumerate(zip(filled, places, strict=True)):
        for column, place in enumerate(at):
            for k in range(1, m + 1):
                previous[number, column, k - 1] = row[place - k] if place >= k else 0
    with torch.no_grad():
        gaps = Tokens(passage.ids, passage.lengths, target.places)
        layout = objective.layout(gaps)
        embeddings, source_layout = objective.encode_source(source)
        last = torch.stack([source_layout.pad(embeddings)[0, 6], source_layout.pad(embeddings)[1, 3]])
        logits = objective.model.decoder(
            layout.pack(passage.embeddings), layout, DecoderContext(previous, last)
        )
        logits = layout.pad(logits)
    logits[..., [0, 1, 2, mask]] = float("-inf")
    expected = logits.log_softmax(-1).gather(-1, passage.ids[..., None]).squeeze(-1)
    expected = expected.masked_fill(~layout.mask, 0.0)
    assert torch.allclose(passage.log_probs, expected, atol=1e-5)
    assert torch.equal(passage.ids, logits.argmax(-1) * layout.mask)


def test_a_model_in_training_mode_writes_nothing():
    objective = light_objective("m = 1").train()
    with pytest.raises(AssertionError, match="evaluation mode"):
        generate(objective, pad_rows(SOURCES, torch.device("cpu")))


def test_what_is_kept_of_the_decoders_weights_is_made_anew_once_they_have_changed():
    objective = light_objective("recurrent")
    source = pad_rows(SOURCES, torch.device("cpu"))
    write = partial(generate, objective, source, length=5, method=LeftToRight(ends=False))
    before = write()
    with torch.no_grad():
        objective.model.decoder.tokens.weight.neg_()
    changed = write()
    assert not torch.equal(before.log_probs, changed.log_probs)
    other = light_objective("recurrent")
    other.load_state_dict(objective.state_dict())
    again = generate(other, source, length=5, method=LeftToRight(ends=False))
    assert torch.equal(changed.log_probs, again.log_probs)
