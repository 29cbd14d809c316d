"""Rollouts on true walks, and plans in the true simulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from random import Random

import numpy as np
from numpy.typing import NDArray

from jepalm.data.prepared import PreparedData, Split
from jepalm.data.worlds import world_of
from jepalm.data.worlds.base import AnyWorld, State
from jepalm.data.worlds.drawing import rollouts
from jepalm.errors import UsageError
from jepalm.evaluation.metrics import HORIZONS, WALK_STEPS
from jepalm.evaluation.rows import MetricRow, mean_row
from jepalm.evaluation.world.action_model import ActionModel
from jepalm.generation.loading import TrainedModel
from jepalm.generation.worlds.plan import make_plan
from jepalm.generation.worlds.rollout import Feedback, check_feedback

BUDGET = 2000
"""States that the search of a plan predicts with each kind of search."""
TRIED = 10
"""Starts for each problem, as some have no goal so far away."""
RANDOM_PLANS = 50
"""Drawn for each problem, as the control."""


def feedback_of(trained: TrainedModel) -> tuple[Feedback, str | None]:
    """What a run feeds back, and why it is not embeddings."""
    if trained.is_causal:
        return "text", None
    try:
        check_feedback(trained.jepalm)
    except UsageError as error:
        return "text", f"latent rollouts: {error}"
    return "latent", None


def rollout_rows(
    models: Mapping[str, ActionModel], latent: bool, prepared: PreparedData, split: Split, n: int, seed: int
) -> list[MetricRow]:
    """Share of walks whose state after k steps is right but for its random facts, for k = 1..8.

    Args:
        models: by column.
        latent: whether the column `model` also rolls out embeddings.
        prepared: data drawn from a world.
        split: where the first transition of a walk belongs.
        n: walks.
        seed: of the walks and the resampling.
    """
    asked = prepared.meta.request.simulated
    assert asked is not None
    world = world_of(asked)
    walks = list(islice(rollouts(asked, prepared.meta.request.split, split.name, WALK_STEPS, seed), n))
    starts = [world.text(walk[0].state) for walk in walks]
    actions = [[walk[step].action for walk in walks] for step in range(WALK_STEPS)]
    truth = [
        [world.masked(world.text(walk[step].next_state)) for walk in walks] for step in range(WALK_STEPS)
    ]
    ways: list[Feedback] = ["latent", "text"] if latent else ["text"]
    conditioning: dict[tuple[str, str], list[list[str]]] = {
        ("model", way): models["model"].roll(starts, actions, way) for way in ways
    }
    if "baseline" in models:
        conditioning["baseline", "text"] = models["baseline"].roll(starts, actions, "text")
    right = {
        key: [_same(world, *pair) for pair in zip(made, truth, strict=True)]
        for key, made in conditioning.items()
    }
    copied = [_same(world, starts, states) for states in truth]
    return [
        mean_row(
            f"rollout/{way}_{step + 1}",
            {
                column: right[key][step]
                for column, key in (("model", ("model", way)), ("baseline", ("baseline", "text")))
                if key in right
            },
            seed=seed,
            controls={"the state at the start": float(copied[step].mean())},
        )
        for way in ways
        for step in range(WALK_STEPS)
    ]


def plan_rows(
    trained: TrainedModel, prepared: PreparedData, split: Split, latent: bool, n: int, seed: int
) -> list[MetricRow]:
    """Share of plans that reach their goal in the simulator, for goals 1..4 actions away.

    They are searched in rolled out texts and, with `latent`, in rolled out embeddings too. Random facts of
    the goal are drawn; they are part of its embedding, and do not count in the simulator.

    Raises:
        UsageError: a state is longer than the run reads.
    """
    asked = prepared.meta.request.simulated
    assert asked is not None
    world = world_of(asked)
    ways: list[Feedback] = ["latent", "text"] if latent else ["text"]
    rows = []
    for horizon in HORIZONS:
        rng = Random(f"plans {seed} {horizon}")
        reached: dict[Feedback, list[bool]] = {way: [] for way in ways}
        by_chance, searched = [], []
        walks = rollouts(asked, prepared.meta.request.split, split.name, 1, seed)
        for walk in islice(walks, TRIED * n):
            start = walk[0].state
            goal = world.goal(start, rng, horizon)
            if goal is not None:
                choices = world.actions(start)
                for way in ways:
                    made = make_plan(
                        trained,
                        world.text(start),
                        world.text(goal),
                        choices,
                        horizon=horizon,
                        feedback=way,
                        budget=BUDGET,
                        seed=seed,
                    )
                    reached[way].append(leads_to(world, start, made.actions, goal))
                drawn = [rng.choices(choices, k=horizon) for _ in range(RANDOM_PLANS)]
                by_chance.append(np.mean([leads_to(world, start, plan, goal) for plan in drawn]))
                searched.append(world.plan(start, goal, horizon) is not None)
            if len(searched) == n:
                break
        if not searched:  # nothing is so far away in this world
            continue
        controls = {
            "random plans": float(np.mean(by_chance)),
            "breadth-first search in the simulator": float(np.mean(searched)),
        }
        rows += [
            mean_row(f"plan/{way}_{horizon}", {"model": found}, seed=seed, controls=controls)
            for way, found in reached.items()
        ]
    return sorted(rows, key=lambda row: row.name)


def _same(world: AnyWorld, conditioning: Sequence[str], truth: Sequence[str]) -> NDArray[np.float64]:
    """Whether each text is the true one but for random facts, (N,); `truth` has them hidden."""
    return np.array(
        [float(world.masked(text) == true) for text, true in zip(conditioning, truth, strict=True)]
    )


def leads_to(world: AnyWorld, state: State, actions: Sequence[str], goal: State) -> bool:
    """Whether actions lead from a state to a goal; an illegal one does nothing."""
    for action in actions:
        state = world.effect(state, action) or state
    return world.reached(state, goal)
