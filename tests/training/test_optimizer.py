from typing import Any

import torch

from jepalm.config import OptimizerConfig
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
