"""What a prediction is told beside its source and the places to predict."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from jepalm.model.layout import Layout
from jepalm.model.queries import Known

ActionView = tuple[Tensor, Layout]
"""Embeddings (..., D) of actions, packed or padded as their layout says."""


@dataclass(frozen=True)
class Conditioning:
    """What a prediction is told; nothing by default.

    Attributes:
        action: of each text, for a model that is conditioned on actions.
        known: tokens that are unmasked, for a predictor that reads such; None unmasks nothing.
        noise: Gumbel noise (B, T, V), for a predictor that reads it; None is noise of 0.
        intermediate logits: a list that is given the logits (..., V) of every guess, where the layers guess.
    """

    action: ActionView | None = None
    known: Known | None = None
    noise: Tensor | None = None
    intermediate_logits: list[Tensor] | None = None
