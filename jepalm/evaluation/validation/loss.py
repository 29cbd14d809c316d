"""The held-out loss, from the held-out values of its terms."""

from __future__ import annotations

from collections.abc import Mapping

from jepalm.objective import Objective


def held_out_loss(
    objective: Objective, values: Mapping[str, float], weights: Mapping[str, float]
) -> dict[str, float]:
    """The weighted sum of the terms that count, each read under its own key (`LossTerm.validation`).

    Args:
        objective: whose terms they are.
        values: held-out metrics by key.
        weights: of the terms that count, by name.

    Returns:
        `validation/loss`.
    """
    keys = {term.name: term.validation for term in objective.terms}
    return {"validation/loss": sum(weight * values[keys[name] or ""] for name, weight in weights.items())}
