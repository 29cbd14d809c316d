"""The plain loop beside the causal family, tried with a tiny model."""

import json
import math

import plain_gpt
import torch

from jepalm.data.prepared import open_prepared


def test_both_sides_train_and_are_measured_on_the_same_windows(data_root, tmp_path, capsys):
    sizes = ["model.dim=16", "model.n_heads=2", "model.causal.n_layers=1", "model.causal.context_len=16"]
    sizes += ["model.source_len=8", "model.target_len=8", "data.name=windows", "hardware.precision=fp32"]
    file = tmp_path / "plain.json"
    given = ["--steps", "30", "--data-dir", str(data_root), "--out", str(file), *sizes]
    assert plain_gpt.main(given) == 0
    found = json.loads(file.read_text())
    plain, ours = found["rows"]
    assert max(plain["nats"], ours["nats"]) < math.log(open_prepared("windows", data_root).meta.vocab_size)
    assert found["ratio"]["n"] == 2
    assert "| plain loop | " in capsys.readouterr().out


def test_a_plain_model_sees_no_later_token():
    model = plain_gpt.PlainGPT(20, 16, 2, 2, 8, 0.0).eval()
    ids = torch.randint(20, (1, 8))
    other = ids.clone()
    other[0, 5:] = (ids[0, 5:] + 1) % 20
    before, after = model(ids), model(other)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5], after[:, 5])
