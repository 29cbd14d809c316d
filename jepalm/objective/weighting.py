"""Weighting: how the terms of a batch become one loss.

Every kind multiplies a term's configured weight by a factor of its own; with `fixed` the factor is 1.
A term in a micro batch is a part of the global mean (see `terms`), so whatever a kind adds itself is
added in the micro batch's share of the global batch, and state changes once a step, with the whole
term, the same on all devices. State lies in buffers: it is saved with the weights.

None of them can repair an objective whose best answer is wrong; they only change how much each term counts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jepalm.config import ObjectiveConfig, RunningMeanConfig, UncertaintyConfig
from jepalm.objective.terms import Losses, LossTerm, weighted


class Weighting(nn.Module):
    """Fixed weights, and what every other kind starts from.

    State has a place for each of `names`, whether the term counts now or not.

    Args:
        fixed: configured weight of each term, in the order of the terms.
        constant: terms that keep their configured weight under every kind, such as a regularizer.
    """

    reads_terms = False
    """Whether `begin` needs the first step's terms before it is taken, and `after_step` those of each."""

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

    def after_step(self, terms: Tensor | None) -> None:
        """Change the state, once an optimizer step.

        Args:
            terms: (T,) the balanced terms of the whole step, over all micro batches and devices.
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
    def after_step(self, terms: Tensor | None) -> None:
        """Put every s back within the clamp."""
        if self.clamp is not None:
            self.log_variances.clamp_(-self.clamp, self.clamp)


class RunningMeanWeighting(Weighting):
    """Each term over its running mean: all terms are about 1, whatever their units.

    weight = configured weight / max(mean, floor). The mean begins at the first step's term and moves
    by an exponential average of the whole step's term. Without the floor a term that goes to 0 would keep a
    share of 1 with nothing left to learn.
    """

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
        for place, term in zip(self.places, terms.unbind(), strict=True):
            self.mean[place] = term

    @torch.no_grad()
    def after_step(self, terms: Tensor | None) -> None:
        """Move the mean: decay * mean + (1 - decay) * term."""
        assert terms is not None
        for place, term in zip(self.places, terms.to(self.mean).unbind(), strict=True):
            self.mean[place].lerp_(term, 1 - self.decay)


def build_weighting(
    config: ObjectiveConfig, terms: list[LossTerm], weights: Mapping[str, float]
) -> Weighting:
    """Build the configured kind.

    Args:
        config: the objective's section.
        terms: those that are on, in the order of `forward`.
        weights: configured weight of each, and maybe of others.
    """
    fixed = {term.name: weights[term.name] for term in terms}
    constant = frozenset(term.name for term in terms if term.constant)
    if config.weighting == "uncertainty":
        in_nats = frozenset(term.name for term in terms if term.nats)
        return UncertaintyWeighting(fixed, config.uncertainty, in_nats, constant)
    if config.weighting == "ema":
        return RunningMeanWeighting(fixed, config.ema, constant)
    return Weighting(fixed, constant)
