"""Phases: which terms count and which parts are trained in each, checked against the model."""

from __future__ import annotations

from collections.abc import Iterable

from jepalm.config import PhaseConfig, TrainingConfig
from jepalm.errors import UsageError, nearest
from jepalm.objective import Objective, Scope
from jepalm.training.schedule import Schedule


def scope_of(phase: PhaseConfig, objective: Objective) -> Scope:
    """What a phase means for an objective.

    Parts and terms that the family has and this configuration leaves out may be named: phases then
    go with any configuration of the family.

    Raises:
        UsageError: a part or a term that the family does not have, or none that is on.
    """
    parts = objective.model.parameters_by_part().keys()
    train = parts if phase.train is None else phase.train
    _known(train, {*parts, *objective.optional_parts}, f"phase {phase.name} trains", "part of the model")
    terms = objective.weights.keys() if phase.terms is None else phase.terms
    _known(terms, objective.weights, f"phase {phase.name} counts", "term of the objective")
    replaced = phase.terms if isinstance(phase.terms, dict) else {}
    for name, weight in replaced.items():
        if weight > 0 and name not in objective.all_terms:
            message = f"phase {phase.name} weighs {name}, which objective.{name} leaves out"
            raise UsageError(message, f"turn objective.{name} on, or drop it from the phase")
    weights = {n: replaced.get(n, objective.weights[n]) for n in objective.all_terms if n in terms}
    if not weights:
        hint = f"terms that are on: {', '.join(objective.all_terms)}"
        raise UsageError(f"phase {phase.name} has no term that counts", hint)
    if not parts & set(train):
        raise UsageError(f"phase {phase.name} trains nothing", f"parts of the model: {', '.join(parts)}")
    return Scope(weights, frozenset(parts & set(train)))


def check_reach(phase: PhaseConfig, objective: Objective) -> set[str]:
    """Check, after a backward pass, that a gradient reaches every part that a phase names.

    Returns:
        all parts that one reaches.

    Raises:
        UsageError: no gradient came to a part, or to any.
    """
    parts = objective.model.parameters_by_part().keys()
    reached = {
        name
        for name in parts
        if any(p.grad is not None for p in objective.model.get_submodule(name).parameters())
    }
    if not reached:
        raise UsageError(f"phase {phase.name} learns nothing from its terms", "no gradient flows anywhere")
    for name in parts & set(phase.train or ()):
        if name not in reached:
            hint = f"leave {name} out of train, add a term, or change the objective's detach settings"
            raise UsageError(f"phase {phase.name} trains {name}, but none of its terms reaches it", hint)
    return reached


def settled(old: TrainingConfig, new: TrainingConfig, steps_per_pass: int, done: int) -> TrainingConfig:
    """The settings to go on with after `done` steps: what was trained stays as it was.

    A phase that has begun keeps its steps when the run's length changes; the last one takes what is left.
    Phases that have not begun may be others.

    Raises:
        UsageError: a phase that has begun is another one now.
    """
    begun = [phase for phase in Schedule.of(old, steps_per_pass).phases if phase.first < done]
    for phase in begun:
        if phase.index >= len(new.phases) or new.phases[phase.index] != phase.config:
            message = f"phase {phase.name} cannot change on resuming: it began at step {phase.first:,}"
            raise UsageError(message, "only phases that have not begun may change")
    if new.phases and not old.phases:
        raise UsageError("training.phases cannot change on resuming: the run has none", "start a new run")
    kept = [phase.config.model_copy(update={"steps": phase.steps}) for phase in begun[: len(new.phases) - 1]]
    pinned = new.model_copy(update={"phases": (*kept, *new.phases[len(kept) :])})
    as_given = Schedule.of(new, steps_per_pass).phases[: len(kept)]
    return new if [phase.steps for phase in as_given] == [config.steps for config in kept] else pinned


def _known(names: Iterable[str], known: Iterable[str], who: str, what: str) -> None:
    for name in names:
        if name not in known:
            raise UsageError(
                f"{who} {name}, which is no {what}", nearest(name, known) or f"there are {', '.join(known)}"
            )
