"""Weighting: how the terms of a batch become one loss.

Every kind multiplies a term's configured weight by a factor of its own; with `fixed` the factor is 1.
A term in a micro batch is a part of the global mean (see `terms`), so whatever a kind adds itself is
added in the micro batch's share of the global batch, and state changes once a step, with the whole
term, the same on all devices. State lies in buffers: it is saved with the weights.

None of them can repair an objective whose best answer is wrong; they only change who weighted terms how hard.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jepalm.config import GradNormConfig, ObjectiveConfig, RunningMeanConfig, UncertaintyConfig
from jepalm.objective.terms import Losses, weighted

ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-8


class Weighting(nn.Module):
    """Fixed weights, and what every other kind starts from.

    State has a place for each of `names`, whether the term counts now or not.

    Args:
        fixed: configured weight of each term, in the order of the terms.
        constant: terms that keep their configured weight under every kind, such as a regularizer.
    """

    reads_first_terms = False
    """Whether `begin` must be given the terms of the first step before it is taken."""
    reads_terms = False
    """Whether `after_step` needs the terms."""

    def __init__(self, fixed: Mapping[str, float], constant: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.fixed = dict(fixed)
        self.names = [name for name in fixed if name not in constant]

    @property
    def balanced(self) -> list[str]:
        """The terms that count and do not keep their configured weight."""
        return [name for name in self.names if name in self.fixed]

    @property
    def places(self) -> list[int]:
        """Where the balanced terms lie in the state."""
        return [self.names.index(name) for name in self.balanced]

    def enter(self, fixed: Mapping[str, float]) -> None:
        """From now on weigh these terms, in a balance that starts anew.

        Args:
            fixed: configured weight of each term that counts, of those known from the start.
        """
        self.fixed = dict(fixed)

    def forward(self, terms: dict[str, Tensor], share: float) -> Losses:
        """Combine the terms of a micro batch.

        Args:
            terms: parts of the global means, by name.
            share: the micro batch's share of the global batch, over all devices.
        """
        return weighted(terms, self.fixed)

    def begin(self, terms: Tensor) -> None:
        """Take the balanced terms (T,) as they are before the first step."""

    def gradients_due(self, step: int) -> bool:
        """Whether `after_step` needs gradient norms after `step` steps of this balance."""
        return False

    def after_step(self, terms: Tensor | None, norms: Tensor | None) -> None:
        """Change the state, once an optimizer step.

        Args:
            terms: (T,) the balanced terms of the whole step, over all micro batches and devices.
            norms: (T,) length of each balanced term's own gradient, unweighted; when due.
        """


class UncertaintyWeighting(Weighting):
    """Homoscedastic uncertainty (Kendall, Gal, Cipolla 2018, arXiv 1705.07115, eqs. 7 and 10).

    A regression term L becomes `exp(-s) L / 2 + s / 2`, a cross-entropy `exp(-s) L + s / 2`, with one
    learned s = log sigma^2 a term. The best s is log L (log 2L of a cross-entropy), so that every term
    weighs as if it were its own logarithm: one that goes to 0 takes an exploding weight and a loss
    without a lower bound. The clamp on s ends that at `exp(clamp)`. It is a projection after each step, so
    that an s at its end can come back. A term's configured weight multiplies both parts.
    """

    def __init__(
        self,
        fixed: Mapping[str, float],
        config: UncertaintyConfig,
        cross_entropies: frozenset[str],
        constant: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(fixed, constant)
        self.clamp = config.clamp
        self.lr_factor = config.lr_factor
        self.factors = {name: 1.0 if name in cross_entropies else 0.5 for name in self.names}
        self.log_variances = nn.Parameter(torch.zeros(len(self.names)))

    @torch.no_grad()
    def enter(self, fixed: Mapping[str, float]) -> None:
        """Begin with every s at 0; see the base class."""
        super().enter(fixed)
        self.log_variances.zero_()

    def forward(self, terms: dict[str, Tensor], share: float) -> Losses:
        """Combine terms; the micro batch carries its share of the s / 2."""
        learned = dict(zip(self.names, self.log_variances.unbind(), strict=True))
        weights: dict[str, float | Tensor] = {}
        parts = []
        for name, term in terms.items():
            if name not in learned:
                weights[name] = self.fixed[name]
                parts.append(self.fixed[name] * term)
                continue
            s = learned[name]
            weight = self.fixed[name] * self.factors[name] * torch.exp(-s)
            weights[name] = weight.detach()
            parts.append(weight * term + self.fixed[name] * share * 0.5 * s)
        return Losses(torch.stack(parts).sum(), terms, weights)

    @torch.no_grad()
    def after_step(self, terms: Tensor | None, norms: Tensor | None) -> None:
        """Put every s back within the clamp."""
        if self.clamp is not None:
            self.log_variances.clamp_(-self.clamp, self.clamp)


class RunningMeanWeighting(Weighting):
    """Each term over its running mean: all terms are about 1, whatever their units.

    weight = configured weight / max(mean, floor). The mean begins at the first step's term and moves
    by an exponential average of the whole step's term. Without the floor a term that goes to 0 would keep a
    share of 1 and pull as hard as ever at nothing.
    """

    reads_first_terms = True
    reads_terms = True
    mean: Tensor

    def __init__(
        self, fixed: Mapping[str, float], config: RunningMeanConfig, constant: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(fixed, constant)
        self.decay, self.floor = config.decay, config.floor
        self.register_buffer("mean", torch.ones(len(self.names)))

    @torch.no_grad()
    def enter(self, fixed: Mapping[str, float]) -> None:
        """Wait for the first means, which `begin` takes; see the base class."""
        super().enter(fixed)
        self.mean.fill_(1)

    def forward(self, terms: dict[str, Tensor], share: float) -> Losses:
        """Combine terms with weights that change between steps only."""
        factors = dict(zip(self.names, (1 / self.mean.clamp(min=self.floor)).unbind(), strict=True))
        return weighted(terms, {name: factors.get(name, 1.0) * self.fixed[name] for name in terms})

    @torch.no_grad()
    def begin(self, terms: Tensor) -> None:
        """The first running means."""
        self.mean[self.places] = terms.to(self.mean)

    @torch.no_grad()
    def after_step(self, terms: Tensor | None, norms: Tensor | None) -> None:
        """Move the mean: decay * mean + (1 - decay) * term."""
        assert terms is not None
        self.mean[self.places] = self.mean[self.places].lerp(terms.to(self.mean), 1 - self.decay)


class GradNormWeighting(Weighting):
    """GradNorm (Chen et al. 2018, arXiv 1711.02257, eqs. 1 and 2, algorithm 1).

    Weights w minimise `sum |G_i - mean(G) r_i^alpha|` with G_i the length of w_i's weighted gradient and
    r_i = (L_i / L_i(0)) over its mean over terms; the target is held constant, and w is then scaled to
    sum to the number of terms. Terms with configured weight 0 stay out.

    Where this differs from the paper: gradients are taken over all parameters a term reaches, not over
    the last shared layer, because in the reference arrangement the terms share none; the weights are
    updated every `every` steps, by Adam; and they have a floor, because L1 steps overshoot 0.
    L_i(0) is the first update's term, and configured weights only set where the balance begins from.
    """

    reads_terms = True
    weights: Tensor
    first: Tensor
    moments: Tensor
    updates: Tensor

    def __init__(
        self, fixed: Mapping[str, float], config: GradNormConfig, constant: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(fixed, constant)
        self.config = config
        n = len(self.names)
        self.register_buffer("weights", torch.ones(n))
        self.register_buffer("first", torch.ones(n))
        self.register_buffer("moments", torch.zeros(2, n))
        self.register_buffer("updates", torch.zeros(()))

    @property
    def balanced(self) -> list[str]:
        """The terms that count, but for those of weight 0 and those that keep their configured weight."""
        return [name for name in super().balanced if self.fixed[name] > 0]

    @torch.no_grad()
    def enter(self, fixed: Mapping[str, float]) -> None:
        """Begin with every weight at 1 and new first values; see the base class."""
        super().enter(fixed)
        self.weights.fill_(1)
        self.first.fill_(1)
        self.moments.zero_()
        self.updates.zero_()

    def forward(self, terms: dict[str, Tensor], share: float) -> Losses:
        """Combine terms with weights that change between steps only."""
        factors = dict(zip(self.names, self.weights.clone().unbind(), strict=True))
        return weighted(terms, {name: factors.get(name, 1.0) * self.fixed[name] for name in terms})

    def gradients_due(self, step: int) -> bool:
        """After the first step, and then every `every` steps; never without a term to balance."""
        return (step - 1) % self.config.every == 0 and bool(self.balanced)

    @torch.no_grad()
    def after_step(self, terms: Tensor | None, norms: Tensor | None) -> None:
        """One step of Adam (arXiv 1412.6980, algorithm 1) on the weights, where norms are given."""
        if norms is None:
            return
        assert terms is not None
        here, weights = self.places, self.weights[self.places]  # (T,)
        own = norms * torch.tensor([self.fixed[name] for name in self.balanced], device=norms.device)
        first = torch.where(self.updates == 0, terms.clamp(min=ADAM_EPS), self.first[here])
        gradient = gradnorm_gradient(weights, own, terms / first, self.config.alpha)
        self.updates += 1
        mean = self.moments[0, here].lerp(gradient, 1 - ADAM_BETAS[0])
        square = self.moments[1, here].lerp(gradient.square(), 1 - ADAM_BETAS[1])
        step = mean / (1 - ADAM_BETAS[0] ** self.updates)
        scale = (square / (1 - ADAM_BETAS[1] ** self.updates)).sqrt() + ADAM_EPS
        moved = (weights - self.config.lr * step / scale).clamp(min=self.config.floor)
        self.first[here], self.weights[here] = first, moved * len(moved) / moved.sum()
        self.moments[:, here] = torch.stack((mean, square))


def gradnorm_gradient(weights: Tensor, norms: Tensor, loss_ratios: Tensor, alpha: float) -> Tensor:
    """Gradient of GradNorm's L1 loss by the weights (arXiv 1711.02257, eq. 2), the target held constant.

    Args:
        weights: (T,).
        norms: (T,) length of each unweighted term's gradient.
        loss_ratios: (T,) each term over its first value.
        alpha: strength of the restoring force.
    """
    lengths = weights * norms  # (T,)
    rates = loss_ratios / loss_ratios.mean().clamp(min=torch.finfo(loss_ratios.dtype).tiny)  # (T,)
    return torch.sign(lengths - lengths.mean() * rates**alpha) * norms


def build_weighting(
    config: ObjectiveConfig,
    fixed: Mapping[str, float],
    *,
    cross_entropies: frozenset[str],
    constant: frozenset[str] = frozenset(),
) -> Weighting:
    """Build the configured kind.

    Args:
        config: the objective's section.
        fixed: configured weight of each term, in the order of the terms.
        cross_entropies: terms in nats; the others are regressions.
        constant: terms that keep their configured weight under every kind.
    """
    if config.weighting == "uncertainty":
        return UncertaintyWeighting(fixed, config.uncertainty, cross_entropies, constant)
    if config.weighting == "ema":
        return RunningMeanWeighting(fixed, config.ema, constant)
    if config.weighting == "gradnorm":
        return GradNormWeighting(fixed, config.gradnorm, constant)
    return Weighting(fixed, constant)
