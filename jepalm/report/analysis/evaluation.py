"""What `jepalm evaluate` measured, as it lies beside a run's report: its parts, columns and words.

All that the report knows of names of metrics and columns stands here.
"""

from __future__ import annotations

from jepalm.evaluation.metrics import PAIR_GROUPS
from jepalm.evaluation.rows import (
    VERIFIED,
    VERIFIED_NGRAM,
    Evaluation,
    MetricRow,
    baseline_column,
    is_baseline,
    kept_column,
    passes_column,
)
from jepalm.numbers import counted

COLUMNS = {"model": "model", "real": "real", "ngram": "5-gram", "baseline": "baseline"}
"""Columns that every file has, and their titles."""
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
"""Titles of the groups of metrics."""
MAIN_METRICS = (
    *(f"task/{name}" for name in ("exact_match", "language_equality", "language_equality_nondegenerate")),
    *(f"task/{name}" for name in ("answer", "execution", "facts_changed", "facts_random")),
    *("task/word_error", "task/phoneme_error"),
    *("writing/characters_per_s", "views/cosine_gap"),
    *("rollout/latent_8", "rollout/text_8", "plan/text_4", "action/gap_embedding"),
    *("retrieval/embedding", "surprise/embedding", "world/effective_rank", "probe/predicted_changing"),
    *("decoder/generation_ce", "decoder/generation_accuracy", "embedding/r2", "embedding/retrieval"),
    *("scorer/nll", "scorer/gap", "text/jsd_4", "text/valid_words", "text/copied", "brier/score_4"),
    *("cost/passes", "cost/latency"),
)
"""What a summary shows of the whole table."""


def name_and_unit(row: MetricRow) -> tuple[str, str]:
    """Return what people call a metric, and the unit of its values, which may be empty."""
    return row.label, row.unit


def label(row: MetricRow) -> str:
    """Return both in one text."""
    return ", ".join(filter(None, name_and_unit(row)))


def main_rows(evaluation: Evaluation) -> list[MetricRow]:
    """Return the rows that a summary shows."""
    known = {row.name: row for row in evaluation.rows}
    return [known[name] for name in MAIN_METRICS if name in known]


def groups(evaluation: Evaluation) -> dict[str, list[MetricRow]]:
    """Return the rows by the title of their part of the table."""
    found: dict[str, list[MetricRow]] = {}
    for row in evaluation.rows:
        found.setdefault(TITLES.get(row.group, row.group), []).append(row)
    return found


def conditions(evaluation: Evaluation, name: str) -> tuple[object, ...]:
    """Return what two evaluations must share for this metric of both to compare."""
    if name.partition("/")[0] in PAIR_GROUPS:
        return evaluation.task, evaluation.n_answers
    asked = evaluation.n_prompts, evaluation.n_samples, evaluation.temperature, evaluation.length
    return *asked, evaluation.scorer


def columns(evaluation: Evaluation) -> dict[str, str]:
    """Return key and title of each column of texts."""
    wanted = {"real", "ngram"} if evaluation.left_out is None else set()
    if evaluation.baseline is not None:
        wanted.add("baseline")
    checked = {VERIFIED: "verified", VERIFIED_NGRAM: "verified 5-gram"} if evaluation.verified else {}
    return {
        "model": COLUMNS["model"],
        **refined_columns(evaluation),
        **checked,
        **{key: title for key, title in COLUMNS.items() if key in wanted},
        **{baseline_column(n): f"baseline {n}" for n in range(2, 2 + len(evaluation.further))},
    }


def refined_columns(evaluation: Evaluation) -> dict[str, str]:
    """Return key and title of each column of the model's texts that cost more than one pass a passage."""
    tokens = sorted((keep for keep in evaluation.kept if keep >= 1), reverse=True)
    probabilities = sorted(keep for keep in evaluation.kept if keep < 1)
    return {
        **{passes_column(number): f"{number} passes" for number in evaluation.passes},
        **{kept_column(keep): f"{keep:g} kept" for keep in tokens},
        **{kept_column(keep): f"p ≥ {keep:g}" for keep in probabilities},
    }


def kind(column: str) -> str:
    """Return what a column's texts are.

    Returns:
        `model`, `passes`, `kept` or `sure` of the run's own; `real`, `ngram`, `baseline`, `verified`, or
        `verified_ngram`.
    """
    if is_baseline(column):
        return "baseline"
    return column if column in (VERIFIED, VERIFIED_NGRAM) else column.partition("_")[0]


def way_name(evaluation: Evaluation, column: str) -> str:
    """Return what a column's way to write is called."""
    title = {**columns(evaluation), "real": "real text"}[column]
    if column == "model":
        alone = "one pass" if refined_columns(evaluation) else "model"
        return alone if evaluation.length is None else "one pass a passage"
    if kind(column) == "baseline":
        names = [evaluation.baseline or "", *evaluation.further]
        return short(names[int(column.partition("_")[2] or 1) - 1])
    checker = short(evaluation.verified or "")
    names_by_kind = {
        "kept": f"{title} of a passage",
        "sure": f"kept while {title}",
        VERIFIED: f"{checker}, verified",
        VERIFIED_NGRAM: f"{checker}, 5-gram drafts verified",
    }
    return names_by_kind.get(kind(column), title)


def texts(evaluation: Evaluation) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return each prompt that texts are kept of, and name and text of every way to write, real text first."""
    order = ["real", *(name for name in columns(evaluation) if name != "real")]
    return [
        (kept["prompt"], [(way_name(evaluation, name), kept[name]) for name in order if name in kept])
        for kept in evaluation.texts
    ]


def short(run: str) -> str:
    """Return a run's name without its date."""
    parts = run.split("-")
    return "-".join(parts[3:]) if len(parts) > 3 and parts[0].isdecimal() else run


def header(evaluation: Evaluation) -> list[str]:
    """Return what was measured, on what, in one line each."""
    found, split = evaluation, evaluation.split
    begin, read = f"{found.run} at step {found.step:,}", f"{counted(found.training_tokens, 'token')} of train"
    answered = f"{counted(found.n_answers, 'answer')} to {split}, likeliest text, task {found.task}"
    interval = "[low, high]: 95 % bootstrap interval of the model over "
    beside = {} if found.baseline is None else {"baseline": found.baseline}
    if found.n_answers and not found.n_samples:
        return [
            f"{begin} · {answered} · seed {found.seed}",
            f"left out: {found.left_out}",
            f"controls read {read}",
            interval + "questions",
            *(f"{title}: {name}" for title, name in beside.items()),
        ]
    if found.left_out is not None:
        return [
            f"{begin} · {counted(found.n_prompts, 'text')} of {split} with gaps · seed {found.seed}",
            f"left out: {found.left_out}",
            f"unigram and 5-gram read {read}",
            interval + "texts",
        ]
    itself = " (which scores its own text in the 5-gram column)" if found.scored_by_ngram else ""
    these = "read" if split != "train" else "read these very prompts, and"
    lines = [
        f"{begin} · {counted(found.n_prompts, 'prompt')} of {split}, {found.n_samples} samples each · "
        f"temperature {found.temperature:g}, seed {found.seed}",
        *([answered] if found.n_answers else []),
        f"scorer: {found.scorer}{itself}",
        f"5-gram, lexicon and copies {these} {read}",
        interval + "prompts",
    ]
    if found.length is not None:
        lines.append(f"all texts have {counted(found.length, 'token')}, of as many passages as it takes")
    if found.passes:
        lines.append(f"model writes in one pass; in more passes it decides by order {found.order}")
    if found.kept:
        lines.append(
            "kept: so many first tokens of each passage stay; p ≥: its longest prefix of that probability;"
            " the next passage follows them"
        )
    if found.verified is not None:
        lines.append(f"verified: text of {found.verified}, which checks what model or 5-gram drafts")
    beside |= {f"baseline {number}": name for number, name in enumerate(found.further, 2)}
    return [*lines, *(f"{title}: {name}" for title, name in beside.items())]
