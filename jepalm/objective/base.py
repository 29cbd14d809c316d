"""What every family's objective is to the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from jepalm.config import ObjectiveConfig
from jepalm.data.batches import Batch
from jepalm.objective.terms import Losses, LossTerm, is_on, loss_terms, term_weight
from jepalm.objective.weighting import Weighting, build_weighting


class Model(Protocol):
    """The parts that an objective trains."""

    def parameters_by_part(self) -> dict[str, int]:
        """Number of parameters of each part."""

    def get_submodule(self, target: str) -> nn.Module:
        """A part by its name."""


@dataclass(frozen=True)
class Scope:
    """Which terms count and which parts learn for a while, as in a phase of a run.

    Attributes:
        weights: configured weight of each term that counts, in the order of the terms.
        parts: the model's parts that learn; the others are frozen.
    """

    weights: Mapping[str, float]
    parts: frozenset[str]


class Objective(nn.Module):
    """Owns the model and turns a batch into named loss terms.

    The trainer knows no more than this class; validation and generation look at the family.

    Attributes:
        model: the parts.
        terms: what is known of each term that is on, in the order of `forward`.
        weights: configured weight of each term that the family has, also of those that are off.
        weighting: how the terms become one loss.
        counted: configured weight of each term that counts now: what `forward` returns, in its order.
        packing: whether the positions of all texts lie behind one another, without padding.
        optional_parts: parts of the family that a model may lack.
        scope: what counts and learns now; None: everything.
    """

    model: Model
    terms: list[LossTerm]
    weights: Mapping[str, float]
    counted: Mapping[str, float]
    weighting: Weighting
    packing: bool
    optional_parts: frozenset[str] = frozenset()
    scope: Scope | None = None

    def set_terms(self, family: str, config: ObjectiveConfig) -> None:
        """Take terms, weights and weighting from the config."""
        terms = loss_terms(family, config)
        self.terms = [term for term in terms if is_on(term, config)]
        self.weights = {term.name: term_weight(term, config) for term in terms}
        self.counted = {term.name: self.weights[term.name] for term in self.terms}
        self.weighting = build_weighting(config, self.terms, self.weights)

    @property
    def all_terms(self) -> list[str]:
        """Names of the terms that are on, in the order of `forward`."""
        return [term.name for term in self.terms]

    @property
    def term_names(self) -> list[str]:
        """The terms that count now, in the order of `forward`."""
        return list(self.counted)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Terms that count and that `forward` leaves out in this step, drawn in `before_step`."""
        return ()

    @property
    def may_leave_out(self) -> bool:
        """Whether there are steps that leave terms out."""
        return False

    def enter(self, scope: Scope) -> None:
        """From now on only these terms count and these parts learn; the weighting starts anew.

        A frozen part gets no gradient and computes as in evaluation, without dropout.
        """
        self.scope, self.counted = scope, scope.weights
        for name in self.model.parameters_by_part():
            self.model.get_submodule(name).requires_grad_(name in scope.parts)
        self.weighting.enter(scope.weights)
        self.train(self.training)

    def train(self, mode: bool = True) -> Objective:
        """Set training or evaluation mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        if self.scope is not None:
            for name in self.model.parameters_by_part().keys() - self.scope.parts:
                self.model.get_submodule(name).eval()
        return self

    def parameters_by_part(self) -> dict[str, int]:
        """Number of parameters of each part that can learn, and of what never does."""
        return self.model.parameters_by_part()

    def learns(self, part: str) -> bool:
        """Whether a part of the model learns now."""
        return self.scope is None or part in self.scope.parts

    def forward(self, batch: Batch) -> Losses:
        """Terms that count of one micro batch, each over the size of its global batch."""
        raise NotImplementedError

    def before_step(self, step: int) -> None:
        """Draw what is random once an optimizer step, the same on all devices; `step` counts from 0."""

    def after_step(self, step: int, steps: int, terms: Tensor | None = None) -> None:
        """Change, once an optimizer step, what no gradient changes.

        Args:
            step: steps done in which the encoder learns.
            steps: all such steps of the run.
            terms: see `Weighting.after_step`.
        """
        self.weighting.after_step(terms)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Parameters on which each term's gradient norm is logged; empty: none is."""
        raise NotImplementedError
