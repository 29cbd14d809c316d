import math
from pathlib import Path

import pytest
import torch
from tiny_objective import (
    DIM,
    TinyBatches,
    assert_resuming_is_exact,
    tiny_batch,
    tiny_config,
    tiny_objective,
    tiny_trainer,
)

from jepalm.config import ObjectiveConfig, from_mapping
from jepalm.errors import UsageError
from jepalm.evaluation.validation.jepalm import measure
from jepalm.model.layout import Layout
from jepalm.objective import Scope
from jepalm.objective.targets import normalised, target_momentum
from jepalm.objective.terms import cosine_distance, smooth_l1_distance
from jepalm.training.optimizer import build_optimizer

EMA = {"targets": {"encoder": "ema", "ema_start": 0.9}}


def test_momentum_rises_in_a_straight_line_to_one() -> None:
    found = [target_momentum(step, 4, 0.996) for step in range(5)]
    assert found == pytest.approx([0.996, 0.997, 0.998, 0.999, 1.0])


def test_the_target_encoder_moves_by_one_minus_the_momentum() -> None:
    objective = tiny_objective(EMA)
    assert objective.target_encoder is not None
    before = [p.clone() for p in objective.target_encoder.encoder.parameters()]
    with torch.no_grad():
        for p in objective.model.encoder.parameters():
            p.add_(1.0)
    objective.after_step(3, 4)  # the third update: momentum 0.9 + 0.1 * 2 / 4
    for old, own in zip(before, objective.target_encoder.encoder.parameters(), strict=True):
        torch.testing.assert_close(own, old + 0.05)


def test_the_target_encoder_stands_still_where_the_encoder_does() -> None:
    objective = tiny_objective(EMA)
    assert objective.target_encoder is not None
    with torch.no_grad():
        for p in objective.model.encoder.parameters():
            p.add_(1.0)
    before = [p.clone() for p in objective.target_encoder.encoder.parameters()]
    objective.enter(Scope({"embedding": 1.0}, frozenset({"predictor"})))
    objective.after_step(3, 4)
    for old, own in zip(before, objective.target_encoder.encoder.parameters(), strict=True):
        assert torch.equal(old, own)


def test_training_follows_the_recursion_of_the_trained_weights(tmp_path: Path) -> None:
    config = tiny_config(EMA, checkpoint_every=1)
    trainer = tiny_trainer(tmp_path / "run", config)
    expected = trainer.objective.model.encoder.tokens.weight.detach().clone().double()
    weights = []
    after_step = trainer.objective.after_step

    def spy(*given: object) -> None:
        weights.append(trainer.objective.model.encoder.tokens.weight.detach().clone().double())
        after_step(*given)  # type: ignore[arg-type]

    trainer.objective.after_step = spy  # type: ignore[method-assign, assignment]
    trainer.train()
    for step, trained in enumerate(weights):
        momentum = 0.9 + 0.1 * step / 6
        expected = momentum * expected + (1 - momentum) * trained
    assert len(weights) == 6
    assert trainer.objective.target_encoder is not None
    found = trainer.objective.target_encoder.encoder.tokens.weight
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)
    assert not torch.allclose(found.double(), weights[-1], atol=1e-4)


def test_no_optimizer_holds_the_target_encoder_and_no_part_counts_it() -> None:
    objective, shared = tiny_objective(EMA), tiny_objective()
    optimizer = build_optimizer(objective, from_mapping({}).optimizer)
    held = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert held == sum(p.numel() for p in shared.parameters())
    assert objective.model.parameters_by_part() == shared.model.parameters_by_part()


def test_targets_come_from_the_average_and_the_decoder_reads_the_trained_encoder() -> None:
    objective, batch = tiny_objective(EMA), tiny_batch()
    with torch.no_grad():
        objective.model.encoder.tokens.weight.mul_(-1)
    views = objective.encode_and_predict(batch)
    trained = objective.model.encoder(batch.target.ids, views.target_layout)
    assert torch.equal(views.decodable, trained)
    assert not torch.allclose(views.target, trained, atol=0.1)
    assert not views.target.requires_grad


def test_before_the_first_step_the_average_is_the_trained_encoder() -> None:
    found, expected = tiny_objective(EMA)(tiny_batch()), tiny_objective()(tiny_batch())
    assert found.total.item() == pytest.approx(expected.total.item(), rel=1e-6)


def test_r2_is_against_the_averaged_targets() -> None:
    objective, batch = tiny_objective(EMA).eval(), tiny_batch()
    with torch.no_grad():
        objective.model.encoder.tokens.weight.mul_(-1)
        found = measure(objective, [batch])
        views = objective.encode_and_predict(batch)
        mask = views.target_layout.mask
        target, predicted = views.target[mask].double(), views.predicted[mask].double()
    around = (target - target.mean(0)).square().sum()
    expected = 1 - (predicted - target).square().sum() / around
    assert found["validation/r2"] == pytest.approx(expected.item(), rel=1e-5)


def test_the_average_is_saved_and_resuming_is_exact(tmp_path: Path) -> None:
    config = tiny_config(EMA)
    assert_resuming_is_exact(tmp_path / "run", config)


def test_micro_batches_move_the_average_once_a_step(tmp_path: Path) -> None:
    found = []
    for sizes in ((8,), (2, 6)):
        trainer = tiny_trainer(tmp_path / str(len(sizes)), tiny_config(EMA), TinyBatches(*sizes))
        trainer.train()
        assert trainer.objective.target_encoder is not None
        found.append(trainer.objective.target_encoder.encoder.tokens.weight)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-3)


def test_the_average_stays_in_evaluation_mode() -> None:
    objective = tiny_objective(EMA)
    assert objective.target_encoder is not None
    assert not any(module.training for module in objective.train().target_encoder.modules())


def test_averaged_targets_refuse_a_gradient_into_the_target() -> None:
    with pytest.raises(UsageError, match=r"detach_target=false needs objective\.targets\.encoder=shared"):
        from_mapping({"objective": {**EMA, "embedding": {"detach_target": False}}})


def test_layer_normalised_targets_have_mean_zero_and_variance_one_a_position() -> None:
    x = torch.tensor([[[1.0, 3.0], [5.0, 5.0]]])
    found = normalised(x, Layout.of(torch.tensor([2]), 2, packed=False), "layernorm")
    torch.testing.assert_close(found, torch.tensor([[[-1.0, 1.0], [0.0, 0.0]]]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_instance_normalisation_is_over_the_positions_of_each_text(packed: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([4, 2, 1])
    x = torch.randn(3, 4, DIM, generator=generator) * 3 + 1
    layout = Layout.of(lengths, 4, packed=packed)
    found = layout.pad(normalised(layout.pack(x), layout, "instance"))
    for text, length in enumerate(lengths.tolist()):
        rows = x[text, :length].double()
        expected = (rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(found[text, :length].double(), expected, rtol=1e-4, atol=1e-4)
    assert found[2, 0].abs().max().item() == 0


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("kind", ["layernorm", "instance"])
def test_the_decoder_reads_the_normalisation_of_the_targets(kind: str, packing: bool) -> None:
    objective = tiny_objective({"targets": {"normalisation": kind}}, packing=packing)
    views = objective.encode_and_predict(tiny_batch())
    assert torch.equal(views.decodable, views.target)


def test_packing_changes_no_term_of_normalised_averaged_targets() -> None:
    settings = {"targets": {"encoder": "ema", "normalisation": "instance"}, "generation": {"weight": 1}}
    padded, packed = (tiny_objective(settings, packing=p)(tiny_batch()).terms for p in (False, True))
    for name, value in padded.items():
        torch.testing.assert_close(packed[name], value, rtol=1e-4, atol=1e-5)


def test_smooth_l1_is_square_up_to_beta_and_straight_after() -> None:
    predicted, target = torch.tensor([[1.0, 6.0]]), torch.tensor([[0.0, 1.0]])
    # differences 1 and 5 at beta 2: 1 / 4, and 5 - 1
    assert smooth_l1_distance(predicted, target, 2.0).tolist() == [4.25]


def test_cosine_distance_by_hand() -> None:
    predicted = torch.tensor([[3.0, 4.0], [1.0, 0.0], [2.0, 0.0]])
    target = torch.tensor([[4.0, 3.0], [0.0, 5.0], [-1.0, 0.0]])
    assert cosine_distance(predicted, target).tolist() == pytest.approx([1 - 24 / 25, 1.0, 2.0])


@pytest.mark.parametrize("distance", ["smooth_l1", "cosine"])
def test_the_held_out_loss_counts_the_configured_distance(distance: str) -> None:
    objective, batch = tiny_objective({"embedding": {"distance": distance}}).eval(), tiny_batch()
    with torch.no_grad():
        found, losses = measure(objective, [batch]), objective(batch)
    assert found["validation/embedding_distance"] == pytest.approx(losses.terms["embedding"].item(), rel=1e-5)
    assert found["validation/loss"] == pytest.approx(losses.total.item(), rel=1e-5)
    assert math.isfinite(found["validation/r2"])


def test_the_default_has_no_second_encoder() -> None:
    assert tiny_objective().target_encoder is None
    assert ObjectiveConfig().targets.encoder == "shared"
