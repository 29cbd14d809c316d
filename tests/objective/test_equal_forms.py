"""Packed, padded, fused and plain attention are one function: same terms, same gradients."""

from typing import Any

import pytest
import torch
from tiny_objective import terms_and_gradients
from torch import Tensor

from jepalm.data.batches import Batches
from jepalm.data.prepared import open_prepared

FORMS = [(True, "auto"), (True, "matmul"), (True, "sdpa"), (False, "auto"), (False, "sdpa")]
FLOWS = {
    "reference": {},
    "generation": {"objective__generation__weight": 0.5},
    "into_the_source": {
        "objective__generation__weight": 0.5,
        "objective__embedding__detach_source": False,
        "objective__length__detach_source": False,
    },
    "into_source_and_target": {
        "objective__embedding__detach_source": False,
        "objective__embedding__detach_target": False,
        "model__predictor__dim": 8,
        "model__encoder__normalisation": "none",
    },
}


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize(("packing", "attention"), FORMS)
def test_terms_and_all_gradients_equal_the_padded_matmul_form(
    random_objective: Any, make_batch: Any, packing: bool, attention: str, flow: str
):
    plain = random_objective(attention="matmul", **FLOWS[flow]).double()
    other = random_objective(packing=packing, attention=attention, **FLOWS[flow]).double()
    terms, gradients = terms_and_gradients(plain, make_batch())
    other_terms, other_gradients = terms_and_gradients(other, make_batch())
    assert terms.keys() == other_terms.keys()
    assert gradients.keys() == other_gradients.keys() == dict(plain.named_parameters()).keys()
    for name, value in {**terms, **gradients}.items():
        found = {**other_terms, **other_gradients}[name]
        assert torch.allclose(value, found, rtol=1e-10, atol=1e-10), name


def test_term_names_are_those_that_forward_gives_in_its_order(random_objective: Any, make_batch: Any):
    for changed in ({}, FLOWS["generation"], {"objective__length__kind": "none"}):
        objective = random_objective(**changed)
        assert list(objective(make_batch()).terms) == objective.term_names


@pytest.mark.parametrize("packing", [True, False])
def test_one_batch_of_8_gives_the_gradients_of_2_micro_batches_of_4(
    random_objective: Any, data_root: Any, packing: bool
):
    split = open_prepared("lines", data_root).split("train")

    def gradients(micro: int) -> tuple[list[Tensor], float]:
        objective = random_objective(packing=packing).double()
        objective.model.encoder.tokens = torch.nn.Embedding(40, 16, dtype=torch.float64)
        torch.nn.init.normal_(
            objective.model.encoder.tokens.weight, generator=torch.Generator().manual_seed(5)
        )
        objective.model.decoder.vocabulary = torch.nn.Linear(16, 40, bias=False, dtype=torch.float64)
        weight = objective.model.decoder.vocabulary.weight
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(6))
        options: dict[str, Any] = {"source_len": 12, "target_len": 12, "seed": 0, "device": "cpu"}
        parts = Batches(split, batch_size=8, micro_batch_size=micro, **options).at(3)
        assert len(parts) == 8 // micro
        totals = [objective(part).total for part in parts]
        sum(totals).backward()
        return [p.grad for p in objective.parameters()], float(sum(totals).detach())

    whole, total = gradients(8)
    halves, total_of_halves = gradients(4)
    assert total == pytest.approx(total_of_halves, rel=1e-9)
    for one, other in zip(whole, halves, strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-9)


def test_in_bf16_the_encoder_gets_the_gradient_it_gets_in_float32(random_objective: Any, make_batch: Any):
    """The cast weights that autocast keeps must not be those made without a graph."""
    full, half = random_objective(packing=True), random_objective(packing=True)
    full(make_batch()).terms["reconstruction"].backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = half(make_batch())
    losses.terms["reconstruction"].backward()
    pairs = zip(full.model.encoder.parameters(), half.model.encoder.parameters(), strict=True)
    for one, other in pairs:
        assert torch.nn.functional.cosine_similarity(one.grad.flatten(), other.grad.flatten(), dim=0) > 0.98
