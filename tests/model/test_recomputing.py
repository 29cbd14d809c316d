"""Activations that are computed again give the same gradients, and a copy computes with its own weights."""

import copy

import pytest
import torch
from objectives import built, drawn_batch

from jepalm.model.recomputing import recompute_blocks, transformer_blocks


def gradients(objective, name):
    torch.manual_seed(0)
    objective(drawn_batch(name, 0)).total.backward()
    return {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["actions", "LLM-JEPA"])
def test_gradients_are_the_same_from_fewer_activations(name):
    _, _, plain = built(name)
    _, _, again = built(name)
    recompute_blocks(again)
    kept = []

    def bytes_kept(objective):
        kept.append(0)

        def keep(tensor):
            kept[-1] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            torch.manual_seed(0)
            objective(drawn_batch(name, 0))

    bytes_kept(plain)
    bytes_kept(again)
    assert kept[1] < kept[0]
    one, other = gradients(plain, name), gradients(again, name)
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


def test_a_copy_computes_with_its_own_weights():
    _, _, objective = built("causal")
    recompute_blocks(objective)
    other = copy.deepcopy(objective)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.zero_()
    assert gradients(other, "causal")["model.tokens.weight"].abs().sum() > 0
    assert all(block.forward.__self__ is block for block in transformer_blocks(other))
