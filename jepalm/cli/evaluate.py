"""`jepalm evaluate`: what a run does on held-out prompts, beside its controls."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from jepalm.evaluation.rows import Evaluation, Row


TITLES = {
    "task": "answers",
    "writing": "speed of the answers",
    "views": "the two views",
    "decoder": "decoder",
    "embedding": "embeddings",
    "scorer": "text under the scorer",
    "text": "statistics of the text",
    "brier": "agreement with the real text",
}


class Word(enum.StrEnum):
    """What a word boundary is read as."""

    boundary = "boundary"
    letter = "letter"


def evaluate(
    run: Annotated[
        Path | None, typer.Argument(help="Run folder.  [default: runs/latest]", show_default=False)
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="last, best, or a step.")] = "last",
    split: Annotated[
        str, typer.Option(help="train, validation or test: where the prompts are.")
    ] = "validation",
    prompts: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Prompts, evenly spaced over the split.  [default: 1,000; answers to given pairs: 10,000]",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=2, help="Texts of each prompt, for Brier-n.")] = 2,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="Of the model's draws; 0: the most likely token.")
    ] = 1.0,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Seed of the draws; the prompts stay the same.")
    ] = 0,
    baseline: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Another run, whose texts stand beside.")
    ] = None,
    scorer: Annotated[
        Path | None, typer.Option(metavar="RUN", help="A causal run that scores all text; else the 5-gram.")
    ] = None,
    reading: Annotated[
        Word, typer.Option(help=r"What \b in a regular expression is: a word boundary, or the letter b.")
    ] = Word.boundary,
    databases: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of NAME/NAME.sqlite, in which SQL answers are executed."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, mps.")] = "auto",
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of prepared data.  [default: data]", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a run on held-out prompts, beside its controls; on given pairs also how many answers are right.

    Example: jepalm evaluate runs/latest
    """
    from jepalm.cli.console import console, line
    from jepalm.config import from_mapping, runs_root
    from jepalm.evaluation.answers import Scoring
    from jepalm.evaluation.evaluate import evaluate as measure
    from jepalm.evaluation.samplers import baseline_of, scorer_of
    from jepalm.generation.loading import load_trained
    from jepalm.run import open_run, write_json

    hardware = from_mapping({"hardware": {"device": device}}).hardware
    trained = load_trained(open_run(run or runs_root() / "latest"), checkpoint, hardware)
    other = load_trained(open_run(baseline), hardware=hardware) if baseline else None
    evaluation = measure(
        trained,
        trained.data(data_dir),
        split=split,
        n_prompts=prompts,
        n_samples=samples,
        temperature=temperature,
        seed=seed,
        baseline=baseline_of(trained, other, temperature),
        other=other,
        scorer=scorer_of(trained, load_trained(open_run(scorer), hardware=hardware)) if scorer else None,
        baseline_name=other.run.name if other else None,
        scoring=Scoring(reading.value, databases),
    )
    path = trained.run.report / f"evaluation-{evaluation.split}.json"
    write_json(path, evaluation.as_json())
    if as_json:
        typer.echo(json.dumps({**evaluation.as_json(), "file": str(path)}, ensure_ascii=False))
        return
    for text in header(evaluation):
        console.print(text, markup=False)
    console.print(table(evaluation), soft_wrap=False)
    line("file", str(path))


def header(evaluation: Evaluation) -> list[str]:
    """Return what was measured, on what, in one line each."""
    if evaluation.n_answers and not evaluation.n_samples:
        return answers_header(evaluation)
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
        *([answered(evaluation)] if evaluation.n_answers else []),
        f"scorer: {evaluation.scorer}{itself}",
        f"5-gram, lexicon and copies {read} {evaluation.training_tokens:,} tokens of train",
        "[low, high]: 95 % bootstrap interval of the model over prompts",
    ]
    return lines if evaluation.baseline is None else [*lines, f"baseline: {evaluation.baseline}"]


def answers_header(evaluation: Evaluation) -> list[str]:
    """Return the same of an evaluation that is only of answers."""
    lines = [
        f"{evaluation.run} at step {evaluation.step:,} · {answered(evaluation)} · seed {evaluation.seed}",
        f"left out: {evaluation.left_out}",
        f"controls read {evaluation.training_tokens:,} tokens of train",
        "[low, high]: 95 % bootstrap interval of the model over questions",
    ]
    return lines if evaluation.baseline is None else [*lines, f"baseline: {evaluation.baseline}"]


def answered(evaluation: Evaluation) -> str:
    """Return how many answers there were and how they were scored."""
    return f"{evaluation.n_answers:,} answers to {evaluation.split}, likeliest text, task {evaluation.task}"


def table(evaluation: Evaluation) -> Table:
    """Return all figures as one table, a section a group."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    columns = {"model": "model", "real": "real", "ngram": "5-gram", "baseline": "baseline"}
    if evaluation.baseline is None:
        columns.pop("baseline")
    if evaluation.left_out is not None:
        columns = {name: title for name, title in columns.items() if name in ("model", "baseline")}
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    shown.add_column("", overflow="fold")
    for name, title in columns.items():
        shown.add_column(title, justify="right", no_wrap=True, style="bold" if name == "model" else None)
        if name == "model":
            shown.add_column("", justify="right", no_wrap=True, style="dim")
    group = None
    for row in evaluation.rows:
        if row.group != group:
            group = row.group
            if shown.row_count:
                shown.add_row()
            shown.add_row(Text(TITLES[group], style="bold"))
        values = [_value(row, name) for name in columns]
        shown.add_row(_label(row), values[0], _interval(row), *values[1:])
    return shown


def _label(row: Row) -> Text:
    from rich.text import Text

    from jepalm.numbers import three

    label = Text(row.figure)
    if row.unit:
        label.append(f", {row.unit}")
    for name, value in row.controls.items():
        label.append(f"\n  {name} {three(value)}", style="dim")
    return label


def _value(row: Row, column: str) -> str:
    from jepalm.numbers import three

    return three(row.values[column]) if column in row.values else ""


def _interval(row: Row) -> str:
    from jepalm.numbers import three

    return f"[{three(row.interval[0])}, {three(row.interval[1])}]" if row.interval else ""
