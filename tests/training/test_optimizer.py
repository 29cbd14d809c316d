from typing import Any

import pytest
import torch

from jepalm.config import OptimizerConfig
from jepalm.errors import UsageError
from jepalm.training.optimizer import build_optimizer, load_named_state, named_state, set_learning_rate


def test_matrices_decay_and_vectors_do_not():
    module = torch.nn.Linear(3, 2)
    matrices, vectors = build_optimizer(module, OptimizerConfig(weight_decay=0.5)).param_groups
    assert matrices["params"] == [module.weight]
    assert matrices["weight_decay"] == 0.5
    assert vectors["params"] == [module.bias]
    assert vectors["weight_decay"] == 0.0


def test_a_step_without_gradient_shrinks_matrices_by_rate_times_decay():
    module = torch.nn.Linear(3, 2)
    before = module.weight.detach().clone()
    optimizer = build_optimizer(module, OptimizerConfig(weight_decay=0.5))
    set_learning_rate(optimizer, 0.1)
    module.weight.grad, module.bias.grad = torch.zeros(2, 3), torch.zeros(2)
    optimizer.step()
    assert torch.allclose(module.weight, before * 0.95)


def test_named_state_round_trip_is_exact(random_objective: Any, make_batch: Any):
    objective, other = random_objective(), random_objective()
    optimizer = build_optimizer(objective, OptimizerConfig())
    objective(make_batch()).total.backward()
    optimizer.step()
    tensors = named_state(optimizer, objective)
    assert len(tensors) == 3 * len(list(objective.parameters()))
    again = build_optimizer(other, OptimizerConfig())
    load_named_state(again, other, tensors)
    found = named_state(again, other)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_a_frozen_parameter_is_not_trained():
    module = torch.nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    groups = build_optimizer(module, OptimizerConfig()).param_groups
    assert [group["params"] for group in groups] == [[module.weight], []]


def test_muon_moves_the_hidden_matrices_and_adamw_the_rest(random_objective: Any):
    objective = random_objective(model__decoder__kind="recurrent", objective__length__kind="none")
    optimizer = build_optimizer(objective, OptimizerConfig(kind="muon", muon_lr=0.04, lr=0.002))
    names = {parameter: name for name, parameter in objective.named_parameters()}
    muon, *adamw = [{names[p] for p in group["params"]} for group in optimizer.param_groups]
    assert "model.encoder.blocks.0.attention.query_key_value.weight" in muon
    assert "model.decoder.gru.weight_hh_l0" in muon
    others = {"model.encoder.tokens.weight", "model.predictor.queries", "model.decoder.vocabulary.weight"}
    assert others <= adamw[0]
    assert sorted(names.values()) == sorted([*muon, *adamw[0], *adamw[1]])
    set_learning_rate(optimizer, 0.001)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([0.02, 0.001, 0.001])


def test_muon_is_refused_in_one_line_where_torch_lacks_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UsageError, match="has no Muon") as error:
        build_optimizer(torch.nn.Linear(3, 2), OptimizerConfig(kind="muon"))
    assert "optimizer.kind=adamw" in str(error.value.hint)
