"""Regularizers: what keeps embeddings from collapsing, as a loss term of its own.

They read the trained encoder's embeddings of the target, every one of a position that holds text, or of a
latent, as one sample. Those of one text are not independent, so the statistics see fewer samples than rows.
With several devices the statistics are those of all devices together, with gradient; with micro batches they
are those of each micro batch, and the term is their mean. A larger micro batch is another regularizer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from jepalm.config import RegularizerConfig
from jepalm.data.batches import send
from jepalm.model.layout import Layout, at_least_float32

Total = Callable[[Tensor], Tensor]
"""Sums a tensor over devices."""


class SumOverDevices(torch.autograd.Function):
    """Sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return the sum, the same on every process."""
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the sum of the gradients of every process's sum."""
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def over_devices(x: Tensor) -> Tensor:
    """Sum over all processes, with gradient; alone, the tensor itself."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return x
    total: Tensor = SumOverDevices.apply(x)  # type: ignore[no-untyped-call]
    return total


def here(x: Tensor) -> Tensor:
    """Sum over this process alone."""
    return x


class Regularizer(nn.Module):
    """Base of the regularizers: float32 rows of embeddings to a scalar."""

    def before_step(self, step: int) -> None:
        """Draw what is random, once a step and the same on all devices."""

    def forward(self, embeddings: Tensor, layout: Layout) -> Tensor:
        """Statistic of embeddings (..., D), packed or padded as the layout says.

        In training over all devices; in evaluation, where one process may be alone, over this one.
        """
        rows = at_least_float32(embeddings).reshape(-1, embeddings.shape[-1])  # (N, D)
        held = layout.mask.flatten() if layout.index is None else layout.mask.new_ones(len(rows))  # (N,)
        with torch.autocast(rows.device.type, enabled=False):
            return self.statistic(rows, held.to(rows.dtype), over_devices if self.training else here)

    def statistic(self, rows: Tensor, held: Tensor, total: Total) -> Tensor:
        """Scalar of rows (N, D), of which those with held (N,) = 1 count and those with 0 do not."""
        raise NotImplementedError


class VICReg(Regularizer):
    """Variance and covariance of VICReg (arXiv 2105.04906, eqs. 1 to 4).

    Its invariance is the embedding term.
    """

    def __init__(self, config: RegularizerConfig) -> None:
        super().__init__()
        self.config = config

    def statistic(self, rows: Tensor, held: Tensor, total: Total) -> Tensor:
        """Both terms with their weights, mu and nu of the paper."""
        variance, covariance = vicreg(rows, held, self.config.gamma, self.config.eps, total)
        return self.config.variance * variance + self.config.covariance * covariance


class SIGReg(Regularizer):
    """Sketched isotropic Gaussian regularization (LeJEPA, arXiv 2511.08544, section 4).

    The Epps-Pulley test of normality on random one-dimensional slices of the embeddings, fresh every step.
    Slices of embeddings of unit norm have variance 1 / dim: `unit_norm` scales embeddings to norm
    sqrt(dim). Those of the encoder's LayerNorm have that norm already.
    """

    directions: Tensor
    knots: Tensor

    def __init__(self, config: RegularizerConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("knots", torch.linspace(0, config.knots_to, config.knots), persistent=False)
        self.register_buffer("directions", random_directions(dim, config.slices, 0), persistent=False)

    def before_step(self, step: int) -> None:
        """Draw the slices of a step."""
        dim, n = self.directions.shape
        self.directions.copy_(send(random_directions(dim, n, step), self.directions.device))

    def statistic(self, rows: Tensor, held: Tensor, total: Total) -> Tensor:
        """Mean over slices of the Epps-Pulley statistic."""
        if self.config.unit_norm:
            rows = F.normalize(rows, dim=-1) * rows.shape[-1] ** 0.5
        return epps_pulley(rows @ self.directions.to(rows.dtype), held, self.knots, total).mean()


def vicreg(
    rows: Tensor, held: Tensor, gamma: float, eps: float, total: Total = here
) -> tuple[Tensor, Tensor]:
    """Variance and covariance terms of VICReg (arXiv 2105.04906, eqs. 1 to 4).

    v = mean over dims of max(0, gamma - sqrt(Var + eps)); c = sum of squared off-diagonal covariances
    over the number of dims; variances and covariances over n - 1.

    Args:
        rows: (N, D).
        held: (N,) 1 where a row counts, else 0.
        gamma: standard deviation below which a dimension costs.
        eps: keeps the square root's slope finite.
        total: sums over devices.

    Returns:
        v and c.
    """
    count = total(held.sum())
    mean = total((rows * held[:, None]).sum(0)) / count  # (D,)
    centred = (rows - mean) * held[:, None]  # (N, D)
    covariance = total(centred.T @ centred) / (count - 1).clamp(min=1)  # (D, D)
    variances = covariance.diagonal()  # (D,)
    spread = F.relu(gamma - torch.sqrt(variances + eps)).mean()
    crossed = (covariance.square().sum() - variances.square().sum()) / len(variances)
    return spread, crossed


def epps_pulley(slices: Tensor, held: Tensor, knots: Tensor, total: Total = here) -> Tensor:
    """Epps-Pulley statistic of each slice against the standard normal (arXiv 2511.08544, section 4.2).

    `n * integral of |phi_n(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt` with phi_n the empirical characteristic
    function, by the trapezoid rule; both sides of 0 are alike, so knots from 0 on count twice.

    Args:
        slices: (N, S) samples of S one-dimensional projections.
        held: (N,) 1 where a row counts, else 0.
        knots: (K,) evenly spaced, from 0.
        total: sums over devices.

    Returns:
        (S,).
    """
    knots = knots.to(slices.dtype)
    count = total(held.sum())
    angles = slices[..., None] * knots  # (N, S, K)
    waves = torch.stack((angles.cos(), angles.sin()))  # (2, N, S, K)
    real, imaginary = total(torch.einsum("cnsk,n->csk", waves, held)) / count  # two of (S, K)
    normal = torch.exp(-knots.square() / 2)  # (K,)
    error = (real - normal).square() + imaginary.square()  # (S, K)
    return count * 2 * torch.trapezoid(error * normal, knots, dim=-1)


def random_directions(dim: int, n: int, seed: int) -> Tensor:
    """Unit vectors in random directions, (dim, n), on the CPU; the same for the same seed everywhere."""
    drawn = torch.randn(dim, n, generator=torch.Generator().manual_seed(seed))
    return F.normalize(drawn, dim=0)


def build_regularizer(config: RegularizerConfig, dim: int) -> Regularizer | None:
    """Build the configured kind for embeddings of width `dim`."""
    if config.kind == "vicreg":
        return VICReg(config)
    return SIGReg(config, dim) if config.kind == "sigreg" else None
