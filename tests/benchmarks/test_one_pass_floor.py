"""What a causal model knows that has forgotten what stands before the last tokens."""

import json
import math

import one_pass_floor
import pytest
import torch

from jepalm.config import resolve
from jepalm.model.causal import CausalLM


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = ["model.dim=16", "model.n_heads=2", "model.causal.n_layers=2", "model.causal.context_len=12"]
    config = resolve(overrides=["model.family=causal", *sizes]).model
    model = CausalLM(config, 9).eval()
    for parameter in model.parameters():
        parameter.data *= 4  # so that what stands before matters
    return model


def nats_of(model, text, first):
    logs = model(text[None, :-1]).log_softmax(-1)[0]
    return -logs.gather(1, text[1:, None])[first - 1 :, 0].detach()


def test_who_reads_all_of_the_target_has_forgotten_nothing(model):
    source, target = torch.tensor([5, 6, 7, 8]), torch.tensor([6, 5, 8])
    prefixes = torch.cat((source.expand(4, -1), torch.randint(4, 9, (4, 3))), 1)
    nats = one_pass_floor.forgetful_nll(model, source, target, prefixes, [3])
    assert torch.allclose(nats[0], nats_of(model, torch.cat((source, target)), 4), atol=1e-5)


@pytest.mark.parametrize("m", [0, 1])
def test_all_prefixes_that_there_are_give_the_model_s_own_distribution(model, m):
    """By Bayes: every pair of first two tokens, as often as the model draws it, summed by hand."""
    source, target = torch.tensor([5, 6, 7, 8]), torch.tensor([6, 5, 8])
    pairs = torch.cartesian_prod(torch.arange(9), torch.arange(9))  # (81, 2)
    full = torch.cat((source.expand(81, -1), pairs, target[2:].expand(81, 1)), 1)  # (81, 7)
    logs = model(full).log_softmax(-1)[:, 3:6].gather(2, full[:, 4:, None])[..., 0].detach()  # (81, 3)
    chosen = (pairs[:, 1] == target[1]) if m else torch.ones(81, dtype=torch.bool)
    exact = logs[chosen].sum(1).logsumexp(0) - logs[chosen, :2].sum(1).logsumexp(0)
    draws = torch.multinomial(logs[:, :2].sum(1).exp(), 8_000, replacement=True)
    prefixes = torch.cat((full[draws, :6], target[2:].expand(len(draws), 1)), 1)
    nats = one_pass_floor.forgetful_nll(model, source, target, prefixes, [m])
    assert float(nats[0, 2]) == pytest.approx(-float(exact), abs=0.04)
    assert abs(float(nats[0, 2] - nats_of(model, torch.cat((source, target)), 4)[2])) > 0.1


def test_continuations_are_drawn_as_likely_as_they_are(model):
    source = torch.tensor([5, 6, 7])
    drawn = one_pass_floor.draw(model, source.expand(4_000, -1), 1, torch.Generator().manual_seed(0))
    logits = model(source[None])[0, -1]
    logits[: len(one_pass_floor.SPECIALS)] = -math.inf
    shares = torch.bincount(drawn[:, 0], minlength=9) / len(drawn)
    assert torch.allclose(shares, logits.softmax(-1).detach(), atol=0.03)


def test_a_causal_run_is_measured(train_tiny, data_root, tmp_path, capsys):
    causal = {"model__family": "causal", "model__causal__n_layers": 1, "model__causal__context_len": 12}
    unset = {f"model__{part}__n_layers": 4 for part in ("encoder", "predictor", "decoder")}
    sizes = {"model__source_len": 6, "model__target_len": 6}
    run = train_tiny(tmp_path, data__name="windows", **sizes, **unset, **causal)
    file = tmp_path / "floor.json"
    given = ["--data-dir", str(data_root), "--pairs", "2", "--draws", "4", "--contexts", "0", "1"]
    assert one_pass_floor.main([str(run.path), *given, "--out", str(file)]) == 0
    assert "| 1 | the source's worth | " in capsys.readouterr().out
    assert [len(rows) for rows in json.loads(file.read_text())["nats"].values()] == [2, 2]
