import math
from types import SimpleNamespace

import pytest
import torch
from tiny_objective import tiny_batch, tiny_objective

from jepalm.errors import UsageError
from jepalm.generation.writers import WritingOptions, writer_for

BEFORE_THE_LOSS_LABORATORY = [
    (69.00653076171875, 16.379655838012695),
    (55.63572692871094, 15.622963905334473),
    (48.54631042480469, 13.72410774230957),
]
"""Loss and gradient norm of three SGD steps, computed by the first release of the objective."""


def test_the_default_trains_as_the_first_release_did() -> None:
    objective = tiny_objective()
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.01)
    found = []
    for step in range(3):
        total = objective(tiny_batch(step)).total
        total.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in objective.parameters() if p.grad is not None])
        found.append((total.item(), norm.item()))
        optimizer.step()
        optimizer.zero_grad()
    assert found == [pytest.approx(row, rel=1e-5) for row in BEFORE_THE_LOSS_LABORATORY]


def test_the_default_loss_is_the_plain_sum_of_its_three_terms() -> None:
    objective, batch = tiny_objective(), tiny_batch()
    views = objective.encode_and_predict(batch)
    mask, lengths = views.target_layout.mask, batch.target.lengths
    logits = objective.model.decoder(views.target, views.target_layout)[mask].double()
    right = batch.target.ids[mask]
    reconstruction = -logits.log_softmax(-1)[torch.arange(len(right)), right].mean()
    embedding = (views.predicted - views.target)[mask].double().square().sum(-1).mean()
    assert views.lengths is not None
    length = (views.lengths.double() - lengths).square().mean()
    total = objective(batch).total.item()
    assert total == pytest.approx((reconstruction + embedding + length).item(), rel=1e-5)
    assert math.isfinite(total)


@pytest.mark.parametrize(
    ("kind", "length", "message"), [("mse", 5, "do not go with a length"), ("none", None, "no length head")]
)
def test_length_candidates_need_a_length_to_choose(kind: str, length: int | None, message: str) -> None:
    model = SimpleNamespace(target_len=10, decoder=SimpleNamespace(autoregressive=False))
    objective = SimpleNamespace(length=SimpleNamespace(kind=kind))
    config = SimpleNamespace(model=model, objective=objective)
    trained = SimpleNamespace(config=config, is_causal=False)
    with pytest.raises(UsageError, match=message):
        writer_for(trained, WritingOptions(length=length, length_candidates=2))  # type: ignore[arg-type]
