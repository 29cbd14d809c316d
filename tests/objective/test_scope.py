"""What counts and what learns: what no term reads costs nothing, what stands still stays as it is."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_objective import tiny_batch, tiny_objective

from jepalm.objective import JepalmObjective, Scope

EVERYTHING: dict[str, Any] = {
    "generation": {"weight": 0.5},
    "length": {"kind": "classification"},
    "targets": {"encoder": "ema"},
    "regularizer": {"kind": "vicreg"},
}
PARTS = frozenset({"encoder", "predictor", "decoder", "length"})


def calls(objective: JepalmObjective) -> dict[str, int]:
    """How often each part computes in one forward pass."""
    found: dict[str, int] = {}

    def count(name: str) -> Callable[..., None]:
        return lambda *_: found.update({name: found.get(name, 0) + 1})

    modules = {name: objective.model.get_submodule(name) for name in PARTS}
    if objective.target_encoder is not None:
        modules["target encoder"] = objective.target_encoder
    handles = [module.register_forward_hook(count(name)) for name, module in modules.items()]
    objective(tiny_batch())
    for handle in handles:
        handle.remove()
    return found


def entered(terms: list[str], parts: frozenset[str] = PARTS, **settings: Any) -> JepalmObjective:
    objective = tiny_objective(settings)
    objective.enter(Scope({name: objective.weights[name] for name in terms}, parts))
    return objective


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (["reconstruction"], {"encoder": 1, "decoder": 1}),
        (["regularizer"], {"encoder": 1}),
        (["embedding"], {"encoder": 1, "target encoder": 1, "predictor": 1}),
        (["generation"], {"encoder": 1, "predictor": 1, "decoder": 1}),
        (["length"], {"encoder": 1, "length": 1}),
        (
            ["reconstruction", "embedding", "generation", "length", "regularizer"],
            {"encoder": 2, "target encoder": 1, "predictor": 1, "decoder": 2, "length": 1},
        ),
    ],
)
def test_only_what_the_counted_terms_read_is_computed(terms: list[str], expected: dict[str, int]) -> None:
    objective = entered(terms, **EVERYTHING)
    assert calls(objective) == expected
    assert objective.term_names == terms


def test_shared_targets_cost_one_pass_of_the_encoder_and_a_source_another() -> None:
    assert calls(entered(["embedding"])) == {"encoder": 2, "predictor": 1}


@pytest.mark.parametrize("packing", [False, True])
def test_a_term_is_the_same_whatever_counts_beside_it(packing: bool) -> None:
    together = tiny_objective(EVERYTHING, packing=packing)
    expected = together(tiny_batch()).terms
    for name, value in expected.items():
        alone = tiny_objective(EVERYTHING, packing=packing)
        alone.enter(Scope({name: 3.0}, PARTS))
        losses = alone(tiny_batch())
        torch.testing.assert_close(losses.terms, {name: value}, rtol=1e-5, atol=1e-6)
        assert losses.total.item() == pytest.approx(3 * value.item(), rel=1e-5)


def test_entering_another_scope_frees_what_the_one_before_held() -> None:
    objective = entered(["reconstruction"], frozenset({"encoder", "decoder"}))
    objective.enter(Scope({"embedding": 1.0}, frozenset({"predictor"})))
    objective(tiny_batch()).total.backward()
    reached = {name.split(".")[1] for name, p in objective.named_parameters() if p.grad is not None}
    assert reached == {"predictor"}


def test_the_average_of_the_encoder_is_never_set_learning() -> None:
    objective = entered(["embedding"], **EVERYTHING)
    assert objective.target_encoder is not None
    assert not any(p.requires_grad for p in objective.target_encoder.parameters())


def test_a_part_that_stands_still_has_no_dropout_in_training_either() -> None:
    objective = entered(["embedding"], frozenset({"predictor"})).eval().train()
    modes = {name: objective.model.get_submodule(name).training for name in PARTS}
    assert modes == {"encoder": False, "decoder": False, "length": False, "predictor": True}
