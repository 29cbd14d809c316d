"""Evaluation of a trained run: what it does on held-out prompts, and beside every metric its controls."""

from __future__ import annotations

from collections.abc import Sequence

from jepalm.data.prepared import PreparedData, Split
from jepalm.errors import UsageError, nearest
from jepalm.evaluation.answers.measure import evaluate_answers
from jepalm.evaluation.baselines import check_any_length
from jepalm.evaluation.interfaces import Scorer
from jepalm.evaluation.rows import Evaluation, answers_alone
from jepalm.evaluation.settings import EvaluationSettings
from jepalm.evaluation.text.infilling import evaluate_gaps
from jepalm.evaluation.text.writing import evaluate_texts
from jepalm.evaluation.world.measure import evaluate_world
from jepalm.generation.loading import TrainedModel
from jepalm.generation.writers import check_keep, check_refining
from jepalm.numbers import counted


def evaluate(
    trained: TrainedModel,
    prepared: PreparedData,
    settings: EvaluationSettings | None = None,
    *,
    baselines: Sequence[TrainedModel] = (),
    scorer: TrainedModel | Scorer | None = None,
    verifier: TrainedModel | None = None,
) -> Evaluation:
    """Evaluate a JEPALM run; a causal run, or one that reads actions, by its answers to given pairs alone.

    Args:
        trained: the run.
        prepared: the data it was trained on.
        settings: prompts, draws and further columns; the defaults when None.
        baselines: other runs to set beside; the first one answers given pairs, too.
        scorer: scores all texts; the 5-gram when None.
        verifier: a causal run that verifies the model's drafts, and beside them those of the 5-gram.

    Raises:
        UsageError: the run is a causal one of no given pairs, or cannot refine for the passes, or writes no
            text of a given length, there is no such split, it has fewer than four pairs, or something that is
            set beside does not go with the run.
    """
    settings = settings or EvaluationSettings()
    _check_texts(trained, settings)
    split = _split(prepared, settings.split)
    name = trained.run.name
    if answers_alone(trained.config):
        if scorer is not None:
            raise UsageError(f"answers of {name} are scored by their task", "leave --scorer out")
        if settings.passes:
            raise UsageError(f"answers of {name} are written in one pass", "leave --passes out")
        if len(baselines) > 1 or verifier is not None:
            flag = "--verify" if verifier is not None else "more than one --baseline"
            raise UsageError(f"answers of {name} go without {flag}", "leave it out")
        other = baselines[0] if baselines else None
        evaluation = evaluate_answers(trained, prepared, split, settings, other)
        if trained.reads_actions and split.has_action:
            return evaluate_world(evaluation, trained, prepared, split, settings, other)
        return evaluation
    if settings.beams > 1 and trained.pairing != "pairs":
        raise UsageError(f"--beams does nothing for {name}: it answers no questions", "leave it out")
    scored_otherwise = settings.reading != "boundary" or settings.databases is not None
    if scored_otherwise and trained.pairing != "pairs":
        message = f"--reading and --databases do nothing for {name}: it answers no questions"
        raise UsageError(message, "they go with given pairs")
    if trained.pairing == "spans":
        if baselines or scorer is not None or settings.passes or verifier is not None:
            message = "a run that fills gaps takes no --baseline, no --scorer, no --passes and no --verify"
            raise UsageError(message, "nothing that continues a prompt compares with it")
        return evaluate_gaps(trained, prepared, split, settings)
    return evaluate_texts(trained, prepared, split, settings, baselines, scorer, verifier)


def _check_texts(trained: TrainedModel, settings: EvaluationSettings) -> None:
    """Raise UsageError where texts cannot be written as asked."""
    if settings.passes:
        check_refining(trained)
    if settings.length is not None:
        check_any_length(trained)
    if not settings.kept:
        return
    for keep in settings.kept:
        check_keep(trained, keep)
    if settings.length is None:
        raise UsageError("--keep needs the length of the text that is made of passages", "give --length 64")
    longest, most = trained.config.model.target_len, max(settings.kept)
    if most >= longest:
        message = (
            f"{trained.run.name} writes {counted(longest, 'token')} a passage: --keep {most:g} keeps all"
        )
        raise UsageError(message, "give fewer")


def _split(prepared: PreparedData, asked: str) -> Split:
    present = prepared.meta.splits
    for name in present:
        if name == asked:
            return prepared.split(name)
    raise UsageError(f"unknown split {asked}", nearest(asked, present) or f"one of {', '.join(present)}")
