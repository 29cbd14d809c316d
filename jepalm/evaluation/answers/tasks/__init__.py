"""Scorers of answers, one file a task: each a pure function of questions, right answers and written ones."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path

from jepalm.data.prepared import Task
from jepalm.data.regex.syntax import Reading
from jepalm.data.worlds.base import AnyWorld
from jepalm.errors import UsageError
from jepalm.evaluation.answers.tasks.g2p import score_g2p
from jepalm.evaluation.answers.tasks.gsm8k import score_gsm8k
from jepalm.evaluation.answers.tasks.nq_open import score_nq_open
from jepalm.evaluation.answers.tasks.regex import score_expressions
from jepalm.evaluation.answers.tasks.shares import Score
from jepalm.evaluation.answers.tasks.spider import Databases, score_spider
from jepalm.evaluation.answers.tasks.text import score_text
from jepalm.evaluation.answers.tasks.transitions import facts_of, score_transitions

SCORES: dict[Task, Score] = {
    "text": score_text,
    "regex": score_expressions,
    "transitions": score_transitions,
    "gsm8k": score_gsm8k,
    "spider": score_spider,
    "nq-open": score_nq_open,
    "g2p": score_g2p,
}


def score_of(
    task: Task,
    reading: Reading = "boundary",
    databases: Path | None = None,
    world: AnyWorld | None = None,
    known: Collection[str] = (),
) -> Score:
    r"""Return how a task is scored.

    Args:
        task: of the data.
        reading: of a `\b` in an expression.
        databases: folder of sqlite files in which queries are executed; without, their texts are compared.
        world: the simulator that states are of, if there is one.
        known: sources of the training split.

    Raises:
        UsageError: a setting does nothing for this task, or there is no such folder.
    """
    if reading != "boundary" and task != "regex":
        raise UsageError(
            f"--reading does nothing for the task {task}", "it goes with data prepared as --task regex"
        )
    if databases is not None:
        if task != "spider":
            raise UsageError(
                f"--databases does nothing for the task {task}", "it goes with data prepared as --task spider"
            )
        if not databases.is_dir():
            raise UsageError(f"no folder {databases}", "--databases takes a folder of NAME/NAME.sqlite")
        return partial(score_spider, databases=Databases(databases))
    if world is not None:
        return partial(score_transitions, masked=world.masked, facts=facts_of(world))
    if task == "g2p":
        return partial(score_g2p, known=known)
    return partial(score_expressions, reading=reading) if task == "regex" else SCORES[task]
