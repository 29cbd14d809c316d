"""`torch.compile` captures the reference's forward as one graph, without a break."""

from __future__ import annotations

import pytest
import torch
from tiny_objective import VOCABULARY, tiny_batch

from jepalm.config import resolve
from jepalm.objective.jepalm import JepalmObjective


@pytest.mark.parametrize("packing", [False, True])
def test_the_reference_compiles_to_one_graph_with_the_same_loss(packing: bool) -> None:
    config = resolve("nano")
    torch.manual_seed(0)
    objective = JepalmObjective(
        config.model, config.objective, VOCABULARY, packing=packing, attention="matmul"
    )
    torch._dynamo.reset()
    compiled = torch.compile(objective, backend="aot_eager", fullgraph=True)(tiny_batch())
    compiled.total.backward()
    torch.testing.assert_close(compiled.total, objective(tiny_batch()).total)
    assert all(p.grad is not None for p in objective.model.encoder.parameters())
