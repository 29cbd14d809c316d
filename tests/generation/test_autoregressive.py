"""Token by token: the same text as without a cache, kept choices, ends."""

import pytest
import torch

from jepalm.config import from_mapping
from jepalm.data.batches import pad_rows
from jepalm.data.tokenizer import SPECIALS
from jepalm.generation.noise import Noise
from jepalm.generation.token_by_token import Sampling, generate
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
    assert made.passes == 8


@pytest.mark.parametrize("seed", range(8))
def test_a_text_stops_at_its_end_and_the_others_go_on(seed):
    objective = build(seed)
    rows = [[3, 4], [7], [10, 9, 8]]
    made = generate(objective, prompts(rows), length=9, end=END)
    expected = [uncached(objective, row, 9, END) for row in rows]
    assert made.rows == expected
    assert made.passes == min(9, max(map(len, expected)) + 1)


def test_beyond_the_context_the_second_half_is_read_anew():
    objective = build()
    made = generate(objective, prompts([[3, 4, 5]]), length=40)
    assert (len(made.rows[0]), made.passes) == (40, 40)
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
    noise = Noise(0, VOCAB)
    made = generate(build(), prompts([[3]] * 64), length=10, sampling=Sampling(temperature=5.0), noise=noise)
    assert min(min(row) for row in made.rows) >= len(SPECIALS)


def test_the_noise_decides_the_draws():
    def draw(seed, first=0):
        sampling, noise = Sampling(temperature=1.0), Noise(seed, VOCAB, first=first)
        return generate(build(), prompts([[3]] * 4), length=8, sampling=sampling, noise=noise).rows

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert draw(1)[1:] == draw(1, first=1)[:3]


def test_what_was_written_before_does_not_change_a_text():
    sampling, rows = Sampling(temperature=1.0), [[3, 4]]
    whole = generate(build(), prompts(rows), length=8, sampling=sampling, noise=Noise(4, VOCAB)).rows[0]
    again = prompts([[3, 4, *whole[:3]]])
    rest = generate(build(), again, length=5, sampling=sampling, noise=Noise(4, VOCAB), written=3).rows[0]
    assert rest == whole[3:]


CHANCES = torch.tensor([[0.5, 0.05, 0.3, 0.15]])


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
    assert sampling.kept(CHANCES.log())[0].isfinite().nonzero().flatten().tolist() == kept


def test_draws_have_the_probabilities_of_the_kept_tokens():
    noise = Noise(0, 4).at(range(200), [0] * 200, 100).flatten(0, 1)
    drawn = Sampling(1.0, top_k=2).choose(CHANCES.log().expand(20_000, -1), noise)
    shares = torch.bincount(drawn, minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.625, 0.0, 0.375, 0.0]), rtol=0, atol=0.015)


def test_a_low_temperature_is_greedy():
    rows = [[3, 4], [7, 8]]
    sampling, noise = Sampling(temperature=1e-4), Noise(0, VOCAB)
    cold = generate(build(), prompts(rows), length=8, sampling=sampling, noise=noise).rows
    assert cold == generate(build(), prompts(rows), length=8).rows
