"""The step as a GPU wants it: one graph, compiled once, and nothing that lets the CPU wait for the device."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from objectives import OBJECTIVES, UNCOMPILED, built, drawn_batch
from torch._dynamo.utils import counters
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from jepalm.objective import Objective
from jepalm.training.metrics import RecentSteps
from jepalm.training.optimizer import build_optimizer, set_learning_rate

QUICK = {"hidden spans", "local decoder", "actions", "LLM-JEPA"}
"""Compiled in the default tests, beside the reference: one of each family."""


def steps_in_one_graph(name: str, backend: str) -> Objective:
    """Three steps of a compiled objective: a second graph, or a break in one, raises."""
    _, _, objective = built(name)
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(objective, backend=backend, fullgraph=True, dynamic=False)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for step in range(3):
            objective.zero_grad()
            objective.before_step(step)
            compiled(drawn_batch(name, step)).total.backward()
            objective.after_step(step + 1, 3, torch.ones(len(objective.weighting.balanced)))
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    return objective


def test_the_reference_is_one_graph_with_the_gradient_of_the_eager_step() -> None:
    traced = steps_in_one_graph("reference", "aot_eager")
    _, _, objective = built("reference")
    objective(drawn_batch("reference", 2)).total.backward()
    for (name, one), other in zip(objective.named_parameters(), traced.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, msg=name)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in OBJECTIVES
        if name not in (*UNCOMPILED, "reference")
    ],
)
def test_batches_of_other_token_counts_need_no_second_graph(name: str) -> None:
    steps_in_one_graph(name, "eager")


class NothingWaits(TorchDispatchMode):
    """Raises where an operation reads tensors of two devices, but for scalars of the CPU: it would wait."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, found)) if isinstance(x, torch.Tensor) and x.ndim]
        devices = {str(tensor.device) for tensor in tensors}
        assert len(devices) < 2, f"{func} reads {devices}"
        return found


class NoLists(TorchFunctionMode):
    """Raises where a list is an index: it becomes a tensor of the CPU, and goes to the device at once."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            assert not any(isinstance(part, list) for part in index), f"{func} with a list"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_never_waits_for_its_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the device `meta`, which has no numbers: to read one raises."""
    monkeypatch.setattr(torch, "autocast", lambda *given, **named: nullcontext())  # which meta has not
    config, _, objective = built(name)
    objective.to("meta")
    optimizer = build_optimizer(objective, config.optimizer)
    batches = [drawn_batch(name, seed, "meta") for seed in range(2)]
    recent = RecentSteps(2, torch.device("meta"))
    recent.count(objective.counted)
    with NothingWaits(), NoLists():
        for step, batch in enumerate(batches):
            set_learning_rate(optimizer, 1e-3)
            recent.start(batch.n_target_tokens)
            losses = objective(batch)
            losses.total.backward()
            recent.add(losses)
            torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            objective.after_step(step + 1, 2, recent.last(objective.weighting.balanced))


def test_what_would_wait_raises() -> None:
    x = torch.ones(2, device="meta")
    with NothingWaits(), pytest.raises(AssertionError, match="reads"):
        x.index_select(0, torch.tensor([0, 1]))
    with NoLists(), pytest.raises(AssertionError, match="list"):
        x[[0, 1]]
    with pytest.raises(RuntimeError, match="meta"):
        float(x.sum())
