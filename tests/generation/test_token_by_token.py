"""Token by token: the same text as without a cache, kept choices, ends."""

import pytest
import torch

from jepalm.config import from_mapping
from jepalm.data.batches import pad_rows
from jepalm.data.tokenizer import SPECIALS
from jepalm.generation.noise import GumbelNoise
from jepalm.generation.sampling import Sampling
from jepalm.generation.token_by_token import CausalWriter, generate
from jepalm.generation.writer import Prompt
from jepalm.hardware import Hardware
from jepalm.objective.causal import CausalObjective

VOCAB, END, CONTEXT = 11, 2, 12


def build(seed=0):
    causal = {"n_layers": 2, "context_len": CONTEXT}
    config = from_mapping({"model": {"family": "causal", "dim": 16, "n_heads": 2, "causal": causal}})
    torch.manual_seed(seed)
    objective = CausalObjective(config.model, config.objective, VOCAB).eval()
    for parameter in objective.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return objective


def prompts(rows):
    return pad_rows(rows, torch.device("cpu"))


def uncached(objective, row, length, end=None):
    """The definition: read the whole text again for each token."""
    text = list(row)
    for _ in range(length):
        logits = objective.model(torch.tensor([text]))[0, -1].detach()
        logits[[token for token in range(len(SPECIALS)) if token != end]] = float("-inf")
        if (token := int(logits.argmax())) == end:
            break
        text.append(token)
    return text[len(row) :]


@pytest.mark.parametrize("seed", range(3))
def test_greedy_text_is_that_of_reading_everything_again(seed):
    objective = build(seed)
    rows = [[3, 4, 5, 6], [7], [8, 9]]
    made = generate(objective, prompts(rows), length=8)
    assert made.rows == [uncached(objective, row, 8) for row in rows]
    assert made.nfe == 8


@pytest.mark.parametrize("seed", range(8))
def test_a_text_stops_at_its_end_and_the_others_go_on(seed):
    objective = build(seed)
    rows = [[3, 4], [7], [10, 9, 8]]
    made = generate(objective, prompts(rows), length=9, end=END)
    expected = [uncached(objective, row, 9, END) for row in rows]
    assert made.rows == expected
    assert made.nfe == min(9, max(map(len, expected)) + 1)


def test_beyond_the_context_the_second_half_is_read_anew():
    objective = build()
    made = generate(objective, prompts([[3, 4, 5]]), length=40)
    assert (len(made.rows[0]), made.nfe) == (40, 40)
    text = [3, 4, 5, *made.rows[0]]
    first = CONTEXT - 3 + 1  # tokens written from the first filling of the context
    assert text[3 : 3 + first] == uncached(objective, [3, 4, 5], first)
    recent = text[: 3 + first][-CONTEXT // 2 :]
    assert text[3 + first] == uncached(objective, recent, 1)[0]


def test_a_prompt_as_long_as_the_context_is_read_whole():
    objective = build()
    row = [3, 4, 5, 6, 7, 8, 9, 10, 3, 4, 5, 6]
    assert len(row) == CONTEXT
    assert generate(objective, prompts([row]), length=1).rows[0] == uncached(objective, row, 1)
    assert generate(objective, prompts([[9, *row]]), length=1).rows[0] == uncached(objective, row, 1)


def test_specials_are_never_written():
    noise = GumbelNoise(0, VOCAB)
    made = generate(build(), prompts([[3]] * 64), length=10, sampling=Sampling(temperature=5.0), noise=noise)
    assert min(min(row) for row in made.rows) >= len(SPECIALS)


def test_the_noise_decides_the_draws():
    def draw(seed, first=0):
        sampling, noise = Sampling(temperature=1.0), GumbelNoise(seed, VOCAB, first=first)
        return generate(build(), prompts([[3]] * 4), length=8, sampling=sampling, noise=noise).rows

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert draw(1)[1:] == draw(1, first=1)[:3]


def test_what_was_written_before_does_not_change_a_text():
    sampling, rows = Sampling(temperature=1.0), [[3, 4]]
    noise = GumbelNoise(4, VOCAB)
    whole = generate(build(), prompts(rows), length=8, sampling=sampling, noise=noise).rows[0]
    again = prompts([[3, 4, *whole[:3]]])
    rest = generate(
        build(), again, length=5, sampling=sampling, noise=GumbelNoise(4, VOCAB), n_written=3
    ).rows[0]
    assert rest == whole[3:]


def test_a_writer_gives_each_text_its_length_and_a_seed_decides_it():
    hardware = Hardware(torch.device("cpu"), "fp32", 1, False, "auto", False, "")
    writer = CausalWriter("tiny", build(), hardware, 9, sampling=Sampling(1.0), batch_size=2)
    asked = [Prompt(row) for row in ([3], [4, 5], [6])]
    first, again, other = (writer.write(asked, seed=seed, lengths=[2, 0, 5]) for seed in (1, 1, 2))
    assert [len(row) for row in first.ids] == first.nfe == [2, 0, 5]
    assert first.batch_nfe == 5 + 5  # a batch of two and one of one
    assert first.ids == again.ids != other.ids
    assert [len(row) for row in writer.write(asked, seed=1).ids] == [9, 9, 9]


def test_a_writer_of_texts_that_end_counts_the_pass_that_ends_them():
    hardware = Hardware(torch.device("cpu"), "fp32", 1, False, "auto", False, "")
    writer = CausalWriter("tiny", build(), hardware, 6, END, Sampling(2.0))
    made = writer.write([Prompt([3, 4], [5])] * 20, seed=0)
    assert made.nfe == [min(len(row) + 1, 6) for row in made.ids]
    assert {len(row) for row in made.ids} > {0, 6}


PROBABILITIES = torch.tensor([[0.5, 0.05, 0.3, 0.15]])


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(1.0), [0, 1, 2, 3]),
        (Sampling(1.0, top_k=2), [0, 2]),
        (Sampling(1.0, top_k=9), [0, 1, 2, 3]),
        (Sampling(1.0, top_p=0.4), [0]),
        (Sampling(1.0, top_p=0.6), [0, 2]),
        (Sampling(1.0, top_p=0.9), [0, 2, 3]),
        (Sampling(1.0, top_k=3, top_p=0.83), [0, 2]),
    ],
)
def test_top_k_and_top_p_keep_the_most_likely(sampling, kept):
    assert sampling.kept(PROBABILITIES.log())[0].isfinite().nonzero().flatten().tolist() == kept


def test_draws_have_the_probabilities_of_the_kept_tokens():
    noise = GumbelNoise(0, 4).at(range(200), [0] * 200, 100).flatten(0, 1)
    drawn = Sampling(1.0, top_k=2).choose(PROBABILITIES.log().expand(20_000, -1), noise)
    shares = torch.bincount(drawn, minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.625, 0.0, 0.375, 0.0]), rtol=0, atol=0.015)


def test_a_low_temperature_is_greedy():
    rows = [[3, 4], [7, 8]]
    sampling, noise = Sampling(temperature=1e-4), GumbelNoise(0, VOCAB)
    cold = generate(build(), prompts(rows), length=8, sampling=sampling, noise=noise).rows
    assert cold == generate(build(), prompts(rows), length=8).rows
