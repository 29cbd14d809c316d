import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny_objective import CPU, DIM, assert_resuming_is_exact, split, tiny_batch, tiny_config, tiny_objective

from jepalm.config import RegularizerConfig
from jepalm.evaluation.validation.jepalm import measure
from jepalm.model.layout import Layout
from jepalm.objective.regularizers import SIGReg, VICReg, epps_pulley, random_directions, vicreg
from jepalm.training.distributed import Processes, WholeModel, leave_group

KINDS = ("vicreg", "sigreg")


def sample(n: int, dim: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, dim, generator=generator) @ torch.randn(dim, dim, generator=generator) * 0.3 + 1


def vicreg_by_numpy(rows: torch.Tensor, gamma: float, eps: float) -> tuple[float, float]:
    x = rows.double().numpy()
    covariance = np.cov(x, rowvar=False)
    dim = len(covariance)
    variance = sum(max(0.0, gamma - math.sqrt(covariance[j, j] + eps)) for j in range(dim)) / dim
    crossed = sum(covariance[i, j] ** 2 for i in range(dim) for j in range(dim) if i != j) / dim
    return variance, crossed


def epps_pulley_by_numpy(x: np.ndarray) -> float:
    """On both sides of 0, with the whole rule written out."""
    t = np.linspace(-3, 3, 33)
    empirical = np.exp(1j * t[:, None] * x[None]).mean(1)
    inside = np.abs(empirical - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2)
    step = 6 / 32
    return float(len(x) * step * (inside.sum() - 0.5 * inside[0] - 0.5 * inside[-1]))


def epps_pulley_closed_form(x: np.ndarray) -> float:
    """The integral over the whole line: BHEP, Baringhaus and Henze 1988, in one dimension with beta 1."""
    n = len(x)
    pairs = np.exp(-((x[:, None] - x[None]) ** 2) / 2).sum() / n
    singles = math.sqrt(2) * np.exp(-(x**2) / 4).sum()
    return math.sqrt(2 * math.pi) * (pairs - singles + n / math.sqrt(3))


def test_vicreg_by_hand() -> None:
    rows = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    # variances 2 and 8, covariance 4: c = (16 + 16) / 2; v at gamma 2: (2 - sqrt(2)) / 2
    variance, covariance = vicreg(rows, torch.ones(2), gamma=2.0, eps=0.0)
    assert variance.item() == pytest.approx((2 - math.sqrt(2)) / 2)
    assert covariance.item() == pytest.approx(16)


def test_vicreg_is_that_of_a_float64_computation() -> None:
    rows = sample(40, 6)
    found = [part.item() for part in vicreg(rows, torch.ones(40), gamma=1.0, eps=1e-4)]
    assert found == pytest.approx(vicreg_by_numpy(rows, 1.0, 1e-4), rel=1e-4)


def test_the_variance_of_collapsed_embeddings_costs_gamma_less_the_root_of_eps() -> None:
    variance, covariance = vicreg(torch.ones(5, 3), torch.ones(5), gamma=1.0, eps=1e-4)
    assert (variance.item(), covariance.item()) == pytest.approx((0.99, 0))


def test_the_term_weighs_variance_and_covariance() -> None:
    rows, config = sample(40, 6), RegularizerConfig(kind="vicreg", variance=10, covariance=3)
    found = VICReg(config)(rows[None], Layout.of(torch.tensor([40]), 40, packed=False))
    variance, covariance = vicreg_by_numpy(rows, 1.0, 1e-4)
    assert found.item() == pytest.approx(10 * variance + 3 * covariance, rel=1e-4)


def test_epps_pulley_of_one_sample_at_zero_by_hand() -> None:
    # two knots, 0 and 2: the integrand is 0 at 0 and (1 - e^-2)^2 e^-2 at 2; twice 2 * half of that
    found = epps_pulley(torch.zeros(1, 1), torch.ones(1), torch.tensor([0.0, 2.0]))
    assert found.item() == pytest.approx(2 * (1 - math.exp(-2)) ** 2 * math.exp(-2), rel=1e-6)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.5, 1.0), (0.0, 0.1), (0.0, 3.0)])
def test_epps_pulley_is_that_of_a_float64_computation(shift: float, scale: float) -> None:
    x = np.random.default_rng(0).normal(shift, scale, 100)
    knots = torch.linspace(0, 3, 17)
    found = epps_pulley(torch.from_numpy(x).float()[:, None], torch.ones(100), knots).item()
    assert found == pytest.approx(epps_pulley_by_numpy(x), rel=1e-4)
    assert found == pytest.approx(epps_pulley_closed_form(x), rel=0.03)


def test_epps_pulley_is_small_for_normal_samples_and_large_for_collapsed_ones() -> None:
    knots = torch.linspace(0, 3, 17)
    normal = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    assert epps_pulley(normal, torch.ones(1000), knots).item() < 1
    assert epps_pulley(0.01 * normal, torch.ones(1000), knots).item() > 100


def test_unit_norm_embeddings_need_the_root_of_dim() -> None:
    drawn = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    rows = torch.nn.functional.normalize(drawn, dim=1)
    layout = Layout.of(torch.tensor([500]), 500, packed=False)
    plain, scaled = (
        SIGReg(RegularizerConfig(kind="sigreg", unit_norm=unit), 64)(rows[None], layout).item()
        for unit in (False, True)
    )
    # of normal samples the statistic's mean is the integral of (1 - exp(-t^2)) exp(-t^2 / 2)
    assert scaled == pytest.approx(math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3)), rel=0.15)
    assert plain > 50


def test_slices_are_unit_vectors_fresh_each_step_and_the_same_everywhere() -> None:
    regularizer = SIGReg(RegularizerConfig(kind="sigreg", slices=5), DIM)
    drawn = []
    for step in (3, 4, 3):
        regularizer.before_step(step)
        drawn.append(regularizer.directions.clone())
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    torch.testing.assert_close(drawn[0].norm(dim=0), torch.ones(5))


def test_sigreg_is_the_mean_over_slices() -> None:
    rows = sample(50, DIM)
    regularizer = SIGReg(RegularizerConfig(kind="sigreg", slices=7), DIM)
    found = regularizer(rows[None], Layout.of(torch.tensor([50]), 50, packed=False)).item()
    slices = rows.double().numpy() @ random_directions(DIM, 7, 0).double().numpy()
    assert found == pytest.approx(np.mean([epps_pulley_by_numpy(x) for x in slices.T]), rel=1e-3)


def test_drawing_slices_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    SIGReg(RegularizerConfig(kind="sigreg"), DIM).before_step(5)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_raised_to_float32(kind: str) -> None:
    objective, batch = tiny_objective({"regularizer": {"kind": kind}}), tiny_batch()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        views = objective.encode_and_predict(batch)
        assert objective.regularizer is not None
        found = objective.regularizer(views.decodable, views.target_layout)
    plain = objective.regularizer(views.decodable.float(), views.target_layout)
    assert found.dtype == torch.float32
    assert torch.equal(found, plain)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_does_not_count(kind: str) -> None:
    padded, packed = (
        tiny_objective({"regularizer": {"kind": kind}}, packing=packing)(tiny_batch()).terms["regularizer"]
        for packing in (False, True)
    )
    torch.testing.assert_close(packed, padded, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_term_is_the_mean_over_micro_batches_of_their_own_statistics(kind: str) -> None:
    objective = tiny_objective({"regularizer": {"kind": kind}})
    first, second = split(tiny_batch(), 2, 6)
    found = [objective(part).terms["regularizer"].item() for part in (first, second)]
    assert objective.regularizer is not None
    own = []
    for part in (first, second):
        views = objective.encode_and_predict(part)
        own.append(objective.regularizer(views.decodable, views.target_layout).item())
    assert found == pytest.approx([own[0] / 4, own[1] * 3 / 4], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_it_teaches_the_encoder(kind: str) -> None:
    objective = tiny_objective({"regularizer": {"kind": kind}})
    term = objective(tiny_batch()).terms["regularizer"]
    (gradient,) = torch.autograd.grad(term, [objective.model.encoder.tokens.weight])
    assert gradient.norm().item() > 0


@pytest.mark.parametrize("weighting", ["uncertainty", "ema"])
def test_it_keeps_its_configured_weight_under_every_weighting(weighting: str) -> None:
    objective = tiny_objective({"weighting": weighting, "regularizer": {"kind": "vicreg", "weight": 0.3}})
    assert objective(tiny_batch()).weights["regularizer"] == 0.3
    assert "regularizer" not in objective.weighting.balanced


@pytest.mark.parametrize("kind", KINDS)
def test_the_held_out_loss_counts_it(kind: str) -> None:
    objective, batch = tiny_objective({"regularizer": {"kind": kind, "weight": 0.5}}).eval(), tiny_batch()
    with torch.no_grad():
        found, losses = measure(objective, [batch]), objective(batch)
    assert found["validation/regularizer"] == pytest.approx(losses.terms["regularizer"].item(), rel=1e-5)
    assert found["validation/loss"] == pytest.approx(losses.total.item(), rel=1e-5)


def test_resuming_with_slices_is_exact(tmp_path: Path) -> None:
    config = tiny_config({"regularizer": {"kind": "sigreg"}})
    assert_resuming_is_exact(tmp_path / "run", config)


SETTINGS = {
    "regularizer": {"kind": "vicreg", "weight": 10},
    "weighting": "uncertainty",
    "length": {"kind": "classification"},
}


def gradients_of_a_process(rank: int, folder: str, kind: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    together = Processes(rank, 2)
    settings = {**SETTINGS, "regularizer": {"kind": kind, "weight": 10}}
    model = WholeModel(objective := tiny_objective(settings), CPU, together).wrapped()
    total = model(split(tiny_batch(), 4, 4)[rank]).total
    (total * 2).backward()
    gradients = {name: p.grad for name, p in objective.named_parameters()}
    gradients["loss"] = together.sum(total.detach().clone())
    if rank == 0:
        torch.save(gradients, os.path.join(folder, "gradients.pt"))
    leave_group()


@pytest.mark.distributed
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_have_the_loss_and_gradient_of_one(kind: str, tmp_path: Path) -> None:
    mp.spawn(gradients_of_a_process, (str(tmp_path), kind), nprocs=2)  # type: ignore[no-untyped-call]
    found = torch.load(tmp_path / "gradients.pt", weights_only=True)
    objective = tiny_objective({**SETTINGS, "regularizer": {"kind": kind, "weight": 10}})
    losses = objective(tiny_batch())
    losses.total.backward()
    torch.testing.assert_close(found["loss"], losses.total.detach(), rtol=1e-5, atol=1e-5)
    for name, parameter in objective.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-5, msg=name)
