"""What every family's objective is to the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import nn

from jepalm.data.batches import Batch
from jepalm.objective.terms import Losses


class Model(Protocol):
    """The parts that an objective trains."""

    def parameters_by_part(self) -> dict[str, int]:
        """Number of parameters of each part."""


class Objective(nn.Module):
    """Owns the model and turns a batch into named loss terms.

    The trainer knows no more than this class; validation and generation look at the family.

    Attributes:
        model: the parts.
        weights: weight of each term in the total.
    """

    model: Model
    weights: Mapping[str, float]

    @property
    def term_names(self) -> list[str]:
        """The terms that `forward` returns, in its order."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Losses:
        """Loss terms of one micro batch, each over the size of its global batch."""
        raise NotImplementedError

    def encoder_parameters(self) -> list[nn.Parameter]:
        """What several terms may pull on: each term's gradient norm on it is logged; empty: none is."""
        raise NotImplementedError
