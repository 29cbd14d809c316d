"""The task's part of an evaluation: which answers of a run are right, beside controls, and their speed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jepalm.data.prepared import PreparedData, Split
from jepalm.data.worlds import world_of
from jepalm.errors import UsageError
from jepalm.evaluation.answers.answering import Answerer, TimedAnswers, write_in_turns
from jepalm.evaluation.answers.questions import (
    most_frequent_answer,
    nearest,
    read_all_answers,
    read_questions,
    training_questions,
)
from jepalm.evaluation.answers.tasks import score_of
from jepalm.evaluation.answers.tasks.shares import Answered, Share
from jepalm.evaluation.rows import Evaluation, MetricRow, ratio_row
from jepalm.evaluation.settings import EvaluationSettings
from jepalm.evaluation.text.held_out import TRAINING_TOKENS
from jepalm.generation.loading import TrainedModel
from jepalm.reading import read_json_lines

MOST_QUESTIONS = 10_000
"""Questions where no number is given."""
LEFT_OUT = "metrics of decoder, embeddings and sampled text, which are of one-shot runs without actions"
FREQUENT, NEAREST, COPY = "most frequent answer", "nearest source's answer", "state as it was"
"""Controls: the answer that train has most often, that of the training source nearest to the question, and
of transitions no change."""
_OF_NO_CONTROL = ("malformed", "undecided", "inflected")
"""Shares that say nothing of a control."""
_VIEWS = {
    "view_cosine_gap": {},
    "view_retrieval": {"chance": "view_retrieval_chance"},
    "predicted_view_rank": {"of the target views": "view_rank"},
}
"""Validation metrics of the two views, and their controls by title."""


@dataclass(frozen=True)
class Answers:
    """Metrics of a run's answers.

    Attributes:
        rows: the table's part.
        n: questions.
        training_tokens: of train that the controls read.
    """

    rows: list[MetricRow]
    n: int
    training_tokens: int


def measure_answers(
    trained: TrainedModel,
    prepared: PreparedData,
    split: Split,
    settings: EvaluationSettings,
    other: TrainedModel | None = None,
) -> Answers:
    """Let a run answer the sources of a split and score what it writes by the task of the data.

    Args:
        trained: a run of given pairs.
        prepared: its data.
        split: where the questions are.
        settings: how many, and how they are scored.
        other: a run to answer beside, if it was trained on pairs.

    Raises:
        UsageError: a setting of the scoring does nothing, or a right answer cannot be scored.
    """
    task = prepared.meta.task
    simulated = prepared.meta.request.simulated
    world = world_of(simulated) if simulated is not None else None
    training, training_tokens = training_questions(prepared, TRAINING_TOKENS)
    known = frozenset(one.source for one in training)
    score = score_of(task, settings.reading, settings.databases, world, known)
    read = read_all_answers if task == "g2p" else read_questions
    questions = read(split, prepared.tokenizer, settings.n_prompts or MOST_QUESTIONS)
    answerers = {"model": Answerer(trained, settings.beams)}
    if other is not None and other.pairing == "pairs":
        if other.reads_actions and not prepared.meta.has_action:
            raise UsageError(f"{other.run.name} reads actions", f"{prepared.path.name} has none")
        answerers["baseline"] = Answerer(other)
    written = write_in_turns(answerers, questions)
    sources, gold = [one.source for one in questions], [one.gold for one in questions]

    def shares(texts: Sequence[str]) -> dict[str, Share]:
        return {share.name: share for share in score(Answered(sources, gold, texts))}

    found = {name: shares(made.texts) for name, made in written.items()}
    near = nearest([one.asked for one in questions], [one.asked for one in training])
    controls = {
        FREQUENT: shares([most_frequent_answer(training)] * len(questions)),
        NEAREST: shares([training[place].gold for place in near.tolist()]),
    }
    if task == "transitions":
        controls[COPY] = shares(sources)
    rows = [*_share_rows(found, controls, settings.seed), *_writing_rows(written)]
    return Answers(rows, len(questions), training_tokens)


def evaluate_answers(
    trained: TrainedModel,
    prepared: PreparedData,
    split: Split,
    settings: EvaluationSettings,
    other: TrainedModel | None = None,
) -> Evaluation:
    """Evaluate a run of given pairs by its answers.

    Raises:
        UsageError: the run, or the one beside it, is of another pairing; or as `measure_answers`.
    """
    for run in (trained, other):
        if run is not None and run.pairing != "pairs":
            kind = f"a {run.config.model.family} run of {run.pairing}"
            hint = "a causal run of such text stands beside a JEPALM: as its --baseline or --scorer"
            raise UsageError(f"{run.run.name} is {kind}, which have no right answers", hint)
    answers = measure_answers(trained, prepared, split, settings, other)
    return Evaluation(
        run=trained.run.name,
        step=trained.checkpoint.step,
        split=split.name,
        n_prompts=answers.n,
        n_samples=0,
        temperature=0.0,
        seed=settings.seed,
        scorer="none",
        scored_by_ngram=False,
        baseline=other.run.name if other is not None else None,
        training_tokens=answers.training_tokens,
        rows=[*answers.rows, *view_rows(trained.run.metrics, trained.checkpoint.step)],
        by_position={},
        left_out=LEFT_OUT,
        task=prepared.meta.task,
        n_answers=answers.n,
    )


def view_rows(metrics: Path, step: int) -> list[MetricRow]:
    """Health of the embeddings of the two views as the training logged it at this step, if it did."""
    known = {name.removeprefix("validation/"): value for name, value in _logged(metrics, step).items()}
    return [
        MetricRow(
            f"views/{name.replace('view_', '')}",
            {"model": known[name]},
            controls={title: known[control] for title, control in controls.items() if control in known},
        )
        for name, controls in _VIEWS.items()
        if known.get(name) is not None
    ]


def _logged(metrics: Path, step: int) -> dict[str, Any]:
    """The last validation row of a step, empty without one; a line that was cut by a kill is none."""
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError):
        for _, row in read_json_lines(metrics):
            if row is not None and row.get("kind") == "validation" and row.get("step") == step:
                found = row
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def _share_rows(
    found: Mapping[str, Mapping[str, Share]], controls: Mapping[str, Mapping[str, Share]], seed: int
) -> list[MetricRow]:
    return [
        ratio_row(
            f"task/{name}",
            {column: (shares[name].above, shares[name].below) for column, shares in found.items()},
            seed=seed,
            controls={
                title: shares[name].value
                for title, shares in controls.items()
                if name in shares and name not in _OF_NO_CONTROL
            },
        )
        for name in found["model"]
    ]


def _writing_rows(written: Mapping[str, TimedAnswers]) -> list[MetricRow]:
    """Speed of the answers; the ratio is how many times the baseline's."""
    rows = []
    for name in ("characters_per_s", "answers_per_s", "latency", "passes"):
        values = {column: float(getattr(made, name)) for column, made in written.items()}
        controls = {}
        if values.get("baseline"):
            controls["times the baseline's"] = values["model"] / values["baseline"]
        rows.append(MetricRow(f"writing/{name}", values, controls=controls))
    return rows
