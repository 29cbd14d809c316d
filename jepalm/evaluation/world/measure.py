"""The world model's part of an evaluation: what only runs that read actions have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np

from jepalm.data.prepared import PreparedData, Split
from jepalm.data.worlds import world_of
from jepalm.data.worlds.base import AnyWorld
from jepalm.errors import UsageError
from jepalm.evaluation.answers.questions import Question, read_questions
from jepalm.evaluation.distances import Distances
from jepalm.evaluation.rows import Evaluation, MetricRow, mean_row
from jepalm.evaluation.settings import EvaluationSettings
from jepalm.evaluation.validation.health import effective_rank, mean_std
from jepalm.evaluation.world.action_model import ActionModel
from jepalm.evaluation.world.negatives import Contrast, contrast_in, contrasts_in_log
from jepalm.evaluation.world.probes import probe_rows
from jepalm.evaluation.world.scores import auc, nearest_is_right
from jepalm.evaluation.world.simulator import feedback_of, plan_rows, rollout_rows
from jepalm.generation.loading import TrainedModel

TRANSITIONS = 1000
"""Where no number is given."""
PROBED = 2000
"""Most training states that the probe learns from."""
RANKED = 256
"""Most next states behind rank and standard deviation."""
A_WALK_IN, A_PLAN_IN = 5, 50
"""Transitions for one walk, and for one plan of each horizon."""


def evaluate_world(
    evaluation: Evaluation,
    trained: TrainedModel,
    prepared: PreparedData,
    split: Split,
    settings: EvaluationSettings,
    other: TrainedModel | None = None,
) -> Evaluation:
    """Add to an evaluation of answers what a run that reads actions makes of them.

    Args:
        evaluation: of the answers.
        trained: a run that reads actions.
        prepared: its data; metrics that need a simulator are left out where it was drawn from none.
        split: where the transitions are.
        settings: how many transitions (1,000 when None), and the seed.
        other: a run to measure beside, if it reads actions.
    """
    seed = settings.seed
    questions = read_questions(split, prepared.tokenizer, settings.n_prompts or TRANSITIONS)
    models = {"model": ActionModel(trained)}
    if other is not None and other.reads_actions:
        models["baseline"] = ActionModel(other)
    simulated = prepared.meta.request.simulated
    world = world_of(simulated) if simulated is not None else None
    contrasts = _contrasts(world, questions, seed)
    rows = [
        *gap_rows(models, questions, contrasts, seed),
        *candidate_rows(models, questions, contrasts, seed, judged=world is not None),
    ]
    one_shot = not trained.is_causal
    missing = ["metrics of sampled text, which are of runs without actions"]
    if not one_shot:
        missing.append("metrics of embeddings and plans, which a causal run has not")
    if one_shot:
        rows += _health_rows(models["model"], questions[:: -(-len(questions) // RANKED)])
    if world is None:
        missing.append("rollouts, surprise, probes and plans, which need the simulator of the data")
    else:
        feedback, reason = feedback_of(trained)
        missing += [reason] if reason is not None else []
        if one_shot:
            training = read_questions(prepared.split("train"), prepared.tokenizer, PROBED)
            rows += probe_rows(models["model"], world, training, questions)
        walks, plans = (max(2, len(questions) // each) for each in (A_WALK_IN, A_PLAN_IN))
        latent = feedback == "latent"
        rows += rollout_rows(models, latent, prepared, split, walks, seed)
        if one_shot:
            try:
                rows += plan_rows(trained, prepared, split, latent, plans, seed)
            except UsageError as error:  # states of the split `longer` may be longer than what is read
                missing.append(f"plans: {error}")
    return replace(evaluation, rows=[*evaluation.rows, *rows], left_out="; ".join(missing))


def gap_rows(
    models: Mapping[str, ActionModel], questions: Sequence[Question], contrasts: Sequence[Contrast], seed: int
) -> list[MetricRow]:
    """How much farther the next state is under a wrong action than under its own: 0, actions are not read."""
    pairs = [pair for pair in zip(questions, contrasts, strict=True) if pair[1].wrong_action]
    if not pairs:
        return []
    misled = [replace(one, action=contrast.wrong_action) for one, contrast in pairs]
    right = {column: model.distances([one for one, _ in pairs]) for column, model in models.items()}
    other = {column: model.distances(misled) for column, model in models.items()}
    rows = []
    for kind in models["model"].kinds:
        gaps = {c: other[c][kind] - right[c][kind] for c in models if kind in right[c]}
        rows.append(
            mean_row(
                f"action/gap_{kind}",
                gaps,
                seed=seed,
                controls={"under its own action": float(right["model"][kind].mean())},
            )
        )
    return rows


def candidate_rows(
    models: Mapping[str, ActionModel],
    questions: Sequence[Question],
    contrasts: Sequence[Contrast],
    seed: int,
    *,
    judged: bool,
) -> list[MetricRow]:
    """Retrieval of the next state among wrong ones, and surprise at impossible ones.

    Args:
        models: by column.
        questions: the transitions.
        contrasts: their wrong next states; transitions without any do not count.
        seed: of the resampling.
        judged: whether a simulator says that they are wrong; surprise is measured only then.
    """
    pairs = [pair for pair in zip(questions, contrasts, strict=True) if pair[1].wrong]
    if not pairs:
        return []
    found = {column: _candidate_distances(model, pairs) for column, model in models.items()}
    edges = np.cumsum([0, *(1 + len(contrast.wrong) for _, contrast in pairs)])
    chance = float(np.mean([1 / (1 + len(contrast.wrong)) for _, contrast in pairs]))
    parts = [slice(start, end) for start, end in pairwise(edges)]
    rows, surprise = [], []
    for kind in models["model"].kinds:
        rights = {
            column: nearest_is_right(
                distances[kind][edges[:-1]], [distances[kind][part][1:] for part in parts]
            )
            for column, distances in found.items()
            if kind in distances
        }
        rows.append(mean_row(f"retrieval/{kind}", rights, seed=seed, controls={"chance": chance}))
        strange = [start + 1 for start, (_, one) in zip(edges, pairs, strict=False) if one.other_actions]
        if judged and strange:
            values = {
                column: auc(distances[kind][strange], distances[kind][edges[:-1]])
                for column, distances in found.items()
                if kind in distances
            }
            surprise.append(MetricRow(f"surprise/{kind}", values, controls={"chance": 0.5}))
    return [*rows, *surprise]


def _candidate_distances(model: ActionModel, pairs: Sequence[tuple[Question, Contrast]]) -> Distances:
    """Distances of the true and then the wrong next states of each transition, one after another."""
    return model.distances(
        [replace(one, gold=text) for one, contrast in pairs for text in (one.gold, *contrast.wrong)]
    )


def _contrasts(world: AnyWorld | None, questions: Sequence[Question], seed: int) -> list[Contrast]:
    if world is None:
        return contrasts_in_log(questions, Random(f"contrasts {seed}"))
    return [
        contrast_in(world, one, Random(f"contrast {seed} {place}")) for place, one in enumerate(questions)
    ]


def _health_rows(model: ActionModel, questions: Sequence[Question]) -> list[MetricRow]:
    target, predicted = model.positions(questions)
    return [
        MetricRow(f"world/{name}", {"model": measure(predicted)}, controls={"target": measure(target)})
        for name, measure in (("std", mean_std), ("effective_rank", effective_rank))
    ]
