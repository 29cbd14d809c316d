"""Verified text is the autoregressive model's own, whatever was drafted."""

import pytest
import torch

from jepalm.config import from_mapping
from jepalm.data.batches import pad_rows
from jepalm.generation import token_by_token
from jepalm.generation.noise import GumbelNoise
from jepalm.generation.sampling import GREEDY, Sampling
from jepalm.generation.verify import OneShotDrafter, VerifiedWriter, verify
from jepalm.generation.writer import Prompt
from jepalm.hardware import Hardware
from jepalm.objective.causal import CausalObjective
from jepalm.objective.jepalm import JepalmObjective

VOCAB = 11


def build(seed=0, context=12):
    causal = {"n_layers": 2, "context_len": context}
    config = from_mapping({"model": {"family": "causal", "dim": 16, "n_heads": 2, "causal": causal}})
    torch.manual_seed(seed)
    objective = CausalObjective(config.model, config.objective, VOCAB).eval()
    for parameter in objective.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return objective


def build_drafter(seed=0, target_len=5, packing=False):
    layers = {"n_layers": 1}
    model = {"dim": 16, "n_heads": 2, "source_len": 6, "target_len": target_len}
    parts = {"encoder": layers, "predictor": layers, "decoder": layers}
    config = from_mapping({"model": model | parts, "objective": {"length": {"kind": "none"}}})
    torch.manual_seed(seed)
    objective = JepalmObjective(config.model, config.objective, VOCAB, packing=packing).eval()
    for parameter in objective.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return OneShotDrafter(objective, torch.device("cpu"))


class Oracle:
    """Drafts what the model will write, with every n-th token wrong."""

    nfe = 1

    def __init__(self, text, prompt, longest, wrong_every=0):
        self.whole, self.longest, self.wrong_every, self.start = text, longest, wrong_every, len(prompt)

    def draft(self, texts, noise, sampling):
        (text,) = texts
        at = len(text) - self.start
        draft = list(self.whole[at : at + self.longest])
        for place in range(len(draft)):
            if self.wrong_every and (at + place) % self.wrong_every == self.wrong_every - 1:
                draft[place] = 3 + (draft[place] - 2) % (VOCAB - 3)
        return [draft]


def alone(objective, row, number, length, sampling, seed):
    """The definition: the model's own sample after one prompt, token by token."""
    prompt, noise = pad_rows([row], torch.device("cpu")), GumbelNoise(seed, VOCAB, first=number)
    made = token_by_token.generate(objective, prompt, length=length, sampling=sampling, noise=noise)
    return made.rows[0]


def prompts(seed, n=3, longest=20):
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, longest, (n,), generator=generator).tolist()
    return [torch.randint(3, VOCAB, (size,), generator=generator).tolist() for size in sizes]


SAMPLINGS = [
    GREEDY,
    Sampling(1.0),
    Sampling(0.7),
    Sampling(1.3, top_k=3),
    Sampling(1.0, top_p=0.8),
    Sampling(1.5, top_k=6, top_p=0.9),
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_text_is_that_of_the_model_alone(sampling, seed):
    objective, drafter = build(seed), build_drafter(seed)
    rows = prompts(seed)
    made = verify(objective, rows, drafter, length=27, sampling=sampling, noise=GumbelNoise(seed, VOCAB))
    assert made.ids == [alone(objective, row, at, 27, sampling, seed) for at, row in enumerate(rows)]


@pytest.mark.parametrize("context", [2, 3, 7, 30])
@pytest.mark.parametrize("target_len", [1, 4, 9])
def test_beyond_the_context_too(context, target_len):
    objective, drafter = build(1, context), build_drafter(2, target_len, packing=True)
    rows = prompts(context, longest=2 * context)
    made = verify(objective, rows, drafter, length=35, sampling=Sampling(1.0), noise=GumbelNoise(5, VOCAB))
    assert made.ids == [alone(objective, row, at, 35, Sampling(1.0), 5) for at, row in enumerate(rows)]


@pytest.mark.parametrize(("wrong_every", "a_pass"), [(0, 5), (3, 3), (1, 1)])
def test_drafts_are_accepted_as_far_as_they_are_right(wrong_every, a_pass):
    objective, row = build(context=64), [3, 4, 5]
    text = alone(objective, row, 0, 30, Sampling(1.0), 0)
    oracle = Oracle(text, row, longest=4, wrong_every=wrong_every)
    made = verify(objective, [row], oracle, length=30, sampling=Sampling(1.0), noise=GumbelNoise(0, VOCAB))
    assert made.ids == [text]
    assert made.checks == [30 // a_pass]
    assert made.batch_nfe == made.nfe[0] == made.checks[0] + made.drafts[0]


def test_a_pass_reads_the_draft_and_what_the_last_one_wrote(monkeypatch):
    objective, row = build(context=64), [3, 4, 5]
    oracle = Oracle(alone(objective, row, 0, 20, Sampling(1.0), 0), row, longest=4)
    hidden, read = objective.model.hidden, []
    monkeypatch.setattr(
        objective.model, "hidden", lambda ids, cache: read.append(tuple(ids.shape)) or hidden(ids, cache)
    )
    verify(objective, [row], oracle, length=20, sampling=Sampling(1.0), noise=GumbelNoise(0, VOCAB))
    assert read == [(1, 3 + 4), (1, 1 + 4), (1, 1 + 4), (1, 1 + 4)]


def test_a_text_does_not_depend_on_the_others():
    objective, drafter, rows = build(3), build_drafter(4), prompts(8, n=4)
    together = verify(
        objective, rows, drafter, length=20, sampling=Sampling(1.0), noise=GumbelNoise(1, VOCAB)
    )
    for number, row in enumerate(rows):
        noise = GumbelNoise(1, VOCAB, first=number)
        by_itself = verify(objective, [row], drafter, length=20, sampling=Sampling(1.0), noise=noise)
        assert by_itself.ids == [together.ids[number]]
        assert by_itself.checks == [together.checks[number]]


def test_a_drafter_without_noise_input_takes_the_highest_sum_of_log_probability_and_noise():
    drafter, row = build_drafter(0), [4, 5, 6, 7]
    noise = GumbelNoise(2, VOCAB).at([0], [0], 5)
    (draft,) = drafter.draft([row], noise, Sampling(0.5))
    objective = drafter.objective
    with torch.no_grad():
        source, layout = objective.encode_source(pad_rows([row], torch.device("cpu")))
        target = objective.layout(pad_rows([[0] * 5], torch.device("cpu")))
        logits = objective.model.decoder(objective.predict(source, layout, target), target)[0]
    logits[:, :3] = float("-inf")
    assert draft == (logits.log_softmax(-1) / 0.5 + noise[0]).argmax(-1).tolist()


def test_a_writer_writes_the_same_in_batches_and_counts_both_models_passes():
    hardware = Hardware(torch.device("cpu"), "fp32", 1, False, "auto", False, "")
    asked = [Prompt(row) for row in prompts(2)]
    whole, parts = (
        VerifiedWriter("tiny", build(3), hardware, build_drafter(4), 20, Sampling(1.0), n).write(
            asked, seed=1
        )
        for n in (3, 2)
    )
    assert (whole.ids, whole.checks) == (parts.ids, parts.checks)
    assert whole.nfe == [a + b for a, b in zip(whole.checks, whole.drafts, strict=True)]
    assert whole.batch_nfe == max(whole.nfe) < parts.batch_nfe
