from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from jepalm.training.flops import count_flops, step_flops

M, K, N = 3, 5, 7
B, H, T, C = 2, 3, 8, 16


def test_a_matrix_product_has_two_operations_an_entry_and_term():
    assert count_flops(lambda: torch.ones(M, K) @ torch.ones(K, N)) == 2 * M * K * N


def test_its_backward_has_twice_as_many():
    x, weight = torch.ones(M, K, requires_grad=True), torch.ones(K, N, requires_grad=True)
    assert count_flops(lambda: (x @ weight).sum().backward()) == 3 * 2 * M * K * N


@pytest.mark.parametrize("causal", [False, True])
def test_fused_attention_on_a_cpu_counts(causal):
    q = torch.ones(B, H, T, C, requires_grad=True)
    product = 2 * B * H * T * T * C
    forward = count_flops(lambda: F.scaled_dot_product_attention(q, q, q, is_causal=causal))
    assert forward == 2 * product  # scores, and their mixture of values
    both = count_flops(lambda: F.scaled_dot_product_attention(q, q, q, is_causal=causal).sum().backward())
    assert both == 2 * product + 5 * product  # scores again, then two products for each of the two


class OneProduct(nn.Module):
    """A matrix product of (M, K) and (K, N)."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(K, N))
        self.calls = 0

    def forward(self, batch):
        self.calls += 1
        return SimpleNamespace(total=(batch @ self.weight).sum())


def test_a_step_has_the_operations_of_its_first_micro_batch_for_each_and_leaves_no_gradient():
    objective = OneProduct()
    micro_batches = [torch.ones(M, K), torch.zeros(M, K)]
    assert step_flops(objective, micro_batches, nullcontext()) == 2 * (2 * 2 * M * K * N)
    assert objective.calls == 1
    assert objective.weight.grad is None
