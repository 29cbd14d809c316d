"""What every family's objective is to the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from jepalm.data.batches import Batch
from jepalm.objective.terms import Losses
from jepalm.objective.weighting import Weighting


class Model(Protocol):
    """The parts that an objective trains."""

    def parameters_by_part(self) -> dict[str, int]:
        """Number of parameters of each part."""


class Objective(nn.Module):
    """Owns the model and turns a batch into named loss terms.

    The trainer knows no more than this class; validation and generation look at the family.

    Attributes:
        model: the parts.
        weights: configured weight of each term.
        weighting: how the terms become one loss.
    """

    model: Model
    weights: Mapping[str, float]
    weighting: Weighting

    @property
    def term_names(self) -> list[str]:
        """The terms that `forward` returns, in its order."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Losses:
        """Loss terms of one micro batch, each over the size of its global batch."""
        raise NotImplementedError

    def before_step(self, step: int) -> None:
        """Draw what is random once an optimizer step, the same on all devices; `step` counts from 0."""

    def after_step(
        self, step: int, steps: int, terms: Tensor | None = None, norms: Tensor | None = None
    ) -> None:
        """Change, once an optimizer step, what no gradient changes.

        Args:
            step: steps done, of a run of `steps`.
            steps: steps of the run.
            terms: see `Weighting.after_step`.
            norms: see `Weighting.after_step`.
        """
        self.weighting.after_step(terms, norms)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """What several terms may pull on: each term's gradient norm on it is logged; empty: none is."""
        raise NotImplementedError
