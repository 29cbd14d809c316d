"""What `jepalm evaluate` measured, as it lies beside a run's report, in words and cells."""

from __future__ import annotations

import json
from pathlib import Path

from jepalm.evaluation.rows import (
    VERIFIED,
    VERIFIED_NGRAM,
    Evaluation,
    MetricRow,
    baseline_column,
    kept_column,
    passes_column,
)
from jepalm.numbers import three

SPLITS = ("validation", "test", "compositional", "longer", "train")
"""In the order in which they are shown."""
COLUMNS = {"model": "model", "real": "real", "ngram": "5-gram", "baseline": "baseline"}
TITLES = {
    "task": "answers",
    "writing": "speed of the answers",
    "views": "the two views",
    "rollout": "rollouts on true walks",
    "plan": "plans, run in the simulator",
    "action": "what depends on the action",
    "retrieval": "the next state among wrong ones",
    "surprise": "surprise",
    "world": "embeddings of next states",
    "probe": "linear probes of facts, held out",
    "decoder": "decoder",
    "embedding": "embeddings",
    "scorer": "text under the scorer",
    "text": "statistics of the text",
    "brier": "agreement with the real text",
    "cost": "what a text costs",
}
_OF_ANSWERS = frozenset(
    ("task", "writing", "views", "rollout", "plan", "action", "retrieval", "surprise", "world", "probe")
)
"""Parts that are measured on given pairs, whatever is sampled beside."""
MAIN_FIGURES = (
    *(f"task/{name}" for name in ("exact_match", "language_equality", "language_equality_nondegenerate")),
    *(f"task/{name}" for name in ("answer", "execution")),
    "writing/characters_per_s",
    "views/cosine_gap",
    *(f"task/facts_{kind}" for kind in ("changed", "random")),
    *("rollout/latent_8", "rollout/text_8", "plan/text_4", "action/gap_embedding"),
    *("retrieval/embedding", "surprise/embedding", "world/effective_rank", "probe/predicted_changing"),
    "decoder/generation_ce",
    "decoder/generation_accuracy",
    "embedding/r2",
    "embedding/retrieval",
    "scorer/nll",
    "scorer/gap",
    "text/jsd_4",
    "text/valid_words",
    "text/copied",
    "brier/score_4",
    "cost/passes",
    "cost/latency",
)
"""What a summary shows of the whole table."""


def read_evaluations(folder: Path, problems: list[str]) -> dict[str, Evaluation]:
    """Return the evaluations of a run by split; what cannot be read is told as a problem."""
    found = {}
    for split in SPLITS:
        path = folder / f"evaluation-{split}.json"
        try:
            found[split] = Evaluation.from_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            break
        except (OSError, ValueError, RecursionError):
            problems.append(f"{path.name} cannot be read: jepalm evaluate --split {split} writes it anew")
    return found


def header(evaluation: Evaluation) -> list[str]:
    """Return what was measured, on what, in one line each."""
    if evaluation.n_answers and not evaluation.n_samples:
        return _answers_header(evaluation)
    if evaluation.left_out is not None:
        return [
            f"{evaluation.run} at step {evaluation.step:,} · {evaluation.n_prompts:,} texts of "
            f"{evaluation.split} with gaps · seed {evaluation.seed}",
            f"left out: {evaluation.left_out}",
            f"unigram and 5-gram read {evaluation.training_tokens:,} tokens of train",
            "[low, high]: 95 % bootstrap interval of the model over texts",
        ]
    asked = f"{evaluation.n_prompts:,} prompts of {evaluation.split}, {evaluation.n_samples} samples each"
    drawn = f"temperature {evaluation.temperature:g}, seed {evaluation.seed}"
    read = "read" if evaluation.split != "train" else "read these very prompts, and"
    itself = " (which scores its own text in the 5-gram column)" if evaluation.scored_by_ngram else ""
    lines = [
        f"{evaluation.run} at step {evaluation.step:,} · {asked} · {drawn}",
        *([_answered(evaluation)] if evaluation.n_answers else []),
        f"scorer: {evaluation.scorer}{itself}",
        f"5-gram, lexicon and copies {read} {evaluation.training_tokens:,} tokens of train",
        "[low, high]: 95 % bootstrap interval of the model over prompts",
    ]
    if evaluation.length is not None:
        lines.append(f"all texts have {evaluation.length} tokens, of as many passages as it takes")
    if evaluation.passes:
        lines.append(f"model writes in one pass; in more passes it decides by order {evaluation.order}")
    if evaluation.kept:
        lines.append(
            "kept, sure: the first tokens of each passage stay, so many or while together so likely, and the"
            " next passage follows them"
        )
    if evaluation.verified is not None:
        lines.append(f"verified: text of {evaluation.verified}, which checks what model or 5-gram drafts")
    beside = {} if evaluation.baseline is None else {"baseline": evaluation.baseline}
    beside |= {baseline_title(number): name for number, name in enumerate(evaluation.further, 2)}
    return [*lines, *(f"{title}: {name}" for title, name in beside.items())]


def baseline_title(number: int) -> str:
    """Return what people call the baseline of a number from 2."""
    return f"baseline {number}"


def _answers_header(evaluation: Evaluation) -> list[str]:
    """Return the same of an evaluation that is of answers alone."""
    lines = [
        f"{evaluation.run} at step {evaluation.step:,} · {_answered(evaluation)} · seed {evaluation.seed}",
        f"left out: {evaluation.left_out}",
        f"controls read {evaluation.training_tokens:,} tokens of train",
        "[low, high]: 95 % bootstrap interval of the model over questions",
    ]
    return lines if evaluation.baseline is None else [*lines, f"baseline: {evaluation.baseline}"]


def _answered(evaluation: Evaluation) -> str:
    """Return how many answers there were and how they were scored."""
    return f"{evaluation.n_answers:,} answers to {evaluation.split}, likeliest text, task {evaluation.task}"


def columns(evaluation: Evaluation) -> dict[str, str]:
    """Return key and title of each column of texts."""
    wanted = {"model"} if evaluation.left_out is not None else {"model", "real", "ngram"}
    if evaluation.baseline is not None:
        wanted.add("baseline")
    refined = refined_columns(evaluation)
    others = {key: title for key, title in COLUMNS.items() if key in wanted - {"model"}}
    further = {
        baseline_column(number): baseline_title(number) for number in range(2, 2 + len(evaluation.further))
    }
    checked = {VERIFIED: "verified", VERIFIED_NGRAM: "verified 5-gram"} if evaluation.verified else {}
    return {"model": COLUMNS["model"], **refined, **checked, **others, **further}


def refined_columns(evaluation: Evaluation) -> dict[str, str]:
    """Return key and title of each column of the model's texts that cost more than one pass a passage."""
    passes = {passes_column(number): f"{number} passes" for number in evaluation.passes}
    tokens = sorted((keep for keep in evaluation.kept if keep >= 1), reverse=True)
    probabilities = sorted(keep for keep in evaluation.kept if keep < 1)
    sure = {kept_column(keep): f"{keep:g} sure" for keep in probabilities}
    return passes | {kept_column(keep): f"{keep:g} kept" for keep in tokens} | sure


def groups(evaluation: Evaluation) -> dict[str, list[MetricRow]]:
    """Return the rows by the title of their part of the table."""
    found: dict[str, list[MetricRow]] = {}
    for row in evaluation.rows:
        found.setdefault(TITLES.get(row.group, row.group), []).append(row)
    return found


def main_rows(evaluation: Evaluation) -> list[MetricRow]:
    """Return the rows that a summary shows."""
    known = {row.name: row for row in evaluation.rows}
    return [known[name] for name in MAIN_FIGURES if name in known]


def conditions(evaluation: Evaluation | None, name: str) -> tuple[object, ...]:
    """Return what a figure of two evaluations must share to compare."""
    assert evaluation is not None
    if name.partition("/")[0] in _OF_ANSWERS:
        return evaluation.task, evaluation.n_answers
    asked = evaluation.n_prompts, evaluation.n_samples, evaluation.temperature, evaluation.length
    return *asked, evaluation.scorer


def label(row: MetricRow) -> str:
    """Return a figure's name with its unit."""
    return f"{row.label}, {row.unit}" if row.unit else row.label


def cell(row: MetricRow, column: str) -> str:
    """Return a value, empty where the figure has no meaning."""
    return three(row.values[column]) if column in row.values else ""


def interval(row: MetricRow) -> str:
    """Return the interval of the model's value, empty without one."""
    return f"[{three(row.interval[0])}, {three(row.interval[1])}]" if row.interval else ""


def controls(row: MetricRow) -> list[str]:
    """Return name and value of each further control."""
    return [f"{name} {three(value)}" for name, value in row.controls.items()]


def not_evaluated(family: str, pairing: str | None, run: str) -> str:
    """Return how to get an evaluation of a run that has none."""
    if family == "causal" and pairing != "pairs":
        return f"a causal run scores and stands beside: jepalm evaluate RUN --baseline {run} --scorer {run}"
    return f"not evaluated yet: jepalm evaluate {run}"
