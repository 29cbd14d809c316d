"""`jepalm evaluate`: what a run does on held-out prompts, beside its controls."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from jepalm.cli.options import (
    BeamsOption,
    CheckpointOption,
    DataDirOption,
    DeviceOption,
    JsonOption,
    PrecisionOption,
    RunArgument,
)
from jepalm.cli.torch_import import import_torch


class WordBoundary(enum.StrEnum):
    """What a word boundary is read as."""

    boundary = "boundary"
    letter = "letter"


def evaluate(
    run: RunArgument = None,
    checkpoint: CheckpointOption = None,
    split: Annotated[
        str,
        typer.Option(help="train, validation, test, or a further split of the data: where the prompts are."),
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
    beams: BeamsOption = 1,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="Of the model's draws; 0: the most likely token.")
    ] = 1.0,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Seed of the draws; the prompts stay the same.")
    ] = 0,
    length: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Tokens of every text, in as many passages as it takes.  [default: one passage]",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="N,P",
            help="With --length: a column each of texts of passages that keep their first N tokens, or, below"
            " 1, as many as are together at least so likely.",
        ),
    ] = None,
    baseline: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN", help="Another run, whose texts stand beside; several may be given."),
    ] = None,
    verify: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="A causal run that verifies the run's drafts, as a column of its own. teacher: the run that"
            " this one learned from.",
        ),
    ] = None,
    scorer: Annotated[
        Path | None, typer.Option(metavar="RUN", help="A causal run that scores all text; else the 5-gram.")
    ] = None,
    passes: Annotated[
        str | None,
        typer.Option(
            metavar="N,N",
            help="Numbers of passes, such as 4,8,16: a column of refined texts for each above 1.",
        ),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            help="What passes decide first: random, confidence, entropy, mask-predict, prefix."
            "  [default: random]",
            show_default=False,
        ),
    ] = None,
    chunks: Annotated[
        bool,
        typer.Option(
            "--chunks", help="Score texts of random chunks and words of the training text as controls."
        ),
    ] = False,
    reading: Annotated[
        WordBoundary,
        typer.Option(help=r"What \b in a regular expression is: a word boundary, or the letter b."),
    ] = WordBoundary.boundary,
    databases: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of NAME/NAME.sqlite, in which SQL answers are executed."),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a run on held-out prompts, beside its controls; on given pairs also how many answers are right.

    Example: jepalm evaluate runs/latest
    """
    import_torch()
    from jepalm.atomic import write_json
    from jepalm.cli.console import console, line, print_json
    from jepalm.cli.refining import kept_of, known_order, numbers_of_passes
    from jepalm.cli.verifying import open_verifier
    from jepalm.config import from_mapping, runs_root
    from jepalm.evaluation.evaluate import evaluate as measure
    from jepalm.evaluation.settings import EvaluationSettings
    from jepalm.generation.loading import load_trained
    from jepalm.report.analysis.evaluation import header
    from jepalm.report.render.run import evaluation_table
    from jepalm.report.render.terminal import blocks_view
    from jepalm.run import open_run
    from jepalm.shell import command

    settings = EvaluationSettings(
        split=split,
        n_prompts=prompts,
        n_samples=samples,
        temperature=temperature,
        seed=seed,
        length=length,
        kept=kept_of("--keep", keep),
        chunks=chunks,
        beams=beams,
        passes=numbers_of_passes(passes, order),
        order=known_order(order),
        reading=reading.value,
        databases=databases,
    )
    hardware = from_mapping({"hardware": {"device": device, "precision": precision}}).hardware
    trained = load_trained(open_run(run or runs_root() / "latest"), checkpoint, hardware)
    place = trained.hardware  # what stands beside the run computes as it does, as their times are compared
    hardware = hardware.model_copy(update={"precision": place.precision, "threads": place.threads})
    evaluation = measure(
        trained,
        trained.data(data_dir),
        settings,
        baselines=[load_trained(open_run(path), hardware=hardware) for path in baseline or ()],
        scorer=load_trained(open_run(scorer), hardware=hardware) if scorer is not None else None,
        verifier=open_verifier(verify, trained, hardware) if verify is not None else None,
    )
    path = trained.run.report / f"evaluation-{evaluation.split}.json"
    write_json(path, evaluation.as_json())
    if as_json:
        print_json({**evaluation.as_json(), "file": str(path)})
        return
    for text in header(evaluation):
        console.print(text, markup=False)
    console.print(blocks_view([evaluation_table(evaluation)]), soft_wrap=False)
    line("file", str(path))
    line("next", command("report", trained.run.path))
