import pytest
import torch
from tiny_objective import tiny_batch, tiny_objective
from torch import nn

from jepalm.objective.jepalm import JepalmObjective


def gradients(objective: JepalmObjective, part: nn.Module) -> list[torch.Tensor | None]:
    term = objective(tiny_batch()).terms["generation"]
    return list(torch.autograd.grad(term, list(part.parameters()), allow_unused=True))


@pytest.mark.parametrize("trained", [True, False])
def test_the_decoder_learns_from_it_only_where_told(trained: bool) -> None:
    objective = tiny_objective({"generation": {"weight": 1, "train_decoder": trained}})
    found = gradients(objective, objective.model.decoder)
    assert all((gradient is not None) == trained for gradient in found)


def test_the_predictor_gets_the_same_gradient_from_a_held_decoder() -> None:
    found = []
    for trained in (True, False):
        objective = tiny_objective({"generation": {"weight": 1, "train_decoder": trained}})
        nn.init.normal_(objective.model.predictor.project.weight)
        found.append(gradients(objective, objective.model.predictor))
    for own, other in zip(*found, strict=True):
        assert own is not None
        assert other is not None
        assert torch.equal(own, other)
        assert own.norm().item() > 0


def test_a_held_decoder_still_learns_reconstruction() -> None:
    objective = tiny_objective({"generation": {"weight": 1, "train_decoder": False}})
    objective(tiny_batch()).total.backward()
    assert all(p.grad is not None for p in objective.model.decoder.parameters())


@pytest.mark.parametrize(
    "settings",
    [
        {"weighting": "uncertainty"},
        {"weighting": "ema"},
        {"length": {"kind": "classification"}},
        {"targets": {"encoder": "ema", "normalisation": "instance"}},
        {"embedding": {"distance": "cosine"}},
        {"regularizer": {"kind": "sigreg"}},
    ],
    ids=str,
)
def test_it_is_the_cross_entropy_of_what_the_decoder_makes_of_predictions(
    settings: dict[str, object],
) -> None:
    objective, batch = tiny_objective({"generation": {"weight": 0.5}, **settings}), tiny_batch()
    nn.init.normal_(objective.model.predictor.project.weight)
    views = objective.encode_and_predict(batch)
    logits = objective.model.decoder(views.predicted, views.target_layout)[views.target_layout.mask]
    right = batch.target.ids[views.target_layout.mask]
    expected = -logits.double().log_softmax(-1)[torch.arange(len(right)), right].mean()
    assert objective(batch).terms["generation"].item() == pytest.approx(expected.item(), rel=1e-5)
