from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from jepalm.hardware import Hardware
from jepalm.training.distributed import Processes
from jepalm.training.flops import StepFlops, count_flops

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
    """A matrix product of (M, K) and (K, N), left out when told so."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(K, N))
        self.left_out = ()
        self.calls = 0

    def forward(self, batch):
        self.calls += 1
        return SimpleNamespace(total=self.weight.sum() if self.left_out else (batch @ self.weight).sum())


def test_a_step_is_measured_once_a_kind_over_micro_batches_and_devices():
    objective = OneProduct()
    batches = SimpleNamespace(at=lambda step: [torch.ones(M, K), torch.zeros(M, K)])
    hardware = Hardware(torch.device("cpu"), "fp32", 1, False, "auto", False, "cpu")
    flops = StepFlops(objective, batches, hardware, Processes(0, 3))
    forward_and_gradient = 2 * 2 * M * K * N
    assert [flops.of_step(0) for _ in range(3)] == [forward_and_gradient * 2 * 3] * 3
    objective.left_out = ("latent",)
    assert [flops.of_step(0), flops.of_step(0)] == [0, 0]
    assert objective.calls == 2
    assert objective.weight.grad is None
