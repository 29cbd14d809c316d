"""`jepalm generate`: prompts to text, in one pass, in several, or token by token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jepalm.cli.options import (
    BeamsOption,
    CheckpointOption,
    DataDirOption,
    DeviceOption,
    JsonOption,
    PictureOption,
    RunOption,
    SamplesOption,
    SeedOption,
)
from jepalm.cli.torch_import import import_torch

if TYPE_CHECKING:
    from jepalm.cli.texts import TextRequest
    from jepalm.generation.loading import TrainedModel
    from jepalm.generation.writers import WritingOptions


def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="Text to read; - reads standard input.", show_default=False)
    ] = None,
    action: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="What is done to the state that is read; for models of transitions."
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Read many prompts, one a line, and print one JSON row each; - reads standard input.",
            show_default=False,
        ),
    ] = None,
    run: RunOption = None,
    checkpoint: CheckpointOption = None,
    length: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Tokens to write, of a model of windows in as many passages as it takes.  [default: as the"
            " model chooses]",
            show_default=False,
        ),
    ] = None,
    length_candidates: Annotated[
        int,
        typer.Option(
            min=1, help="Likeliest lengths to write; the text that the decoder finds most probable is kept."
        ),
    ] = 1,
    beams: BeamsOption = 1,
    passages: Annotated[
        int, typer.Option(min=1, help="Passages to write, each the next one's source, as text.")
    ] = 1,
    samples: SamplesOption = 1,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="0: the most likely token.  [default: 0; 1 for several samples, or a model with noise; 0.8"
            " where a light decoder writes windows or lines]",
            show_default=False,
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Models that write token by token: draw from this many most likely tokens."),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            max=1.0,
            help="Models that write token by token: draw from the tokens that hold this probability.",
        ),
    ] = None,
    refine: Annotated[
        int, typer.Option(min=1, help="Passes a passage; each sees what those before decided.")
    ] = 1,
    order: Annotated[
        str | None,
        typer.Option(
            help="What --refine decides first: random, confidence, entropy, mask-predict, prefix."
            "  [default: random]",
            show_default=False,
        ),
    ] = None,
    entropy_bound: Annotated[
        float | None, typer.Option(min=0.0, help="Nats that --order entropy decides in a pass.  [default: 1]")
    ] = None,
    verify: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Let this causal run check what --run drafts, or --run 5-gram: its own text in fewer passes."
            " teacher: the run that the drafter learned from.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="N|P",
            help="With --length: keep the first N tokens of each passage, or, below 1, as many as are"
            " together at least so probable.",
            show_default=False,
        ),
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, fp32, bf16.  [default: auto; fp32 with --verify]", show_default=False)
    ] = "",
    show_embeddings: PictureOption = False,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
    infill: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Write the next passage in one pass; with a causal model, one pass a token.

    Example: jepalm generate "To be"; many: jepalm generate --prompts questions.txt

    The text of a causal run in fewer passes: jepalm generate "To be" --verify runs/TEACHER
    """
    import_torch()
    from jepalm.cli.prompts import read_lines, show_many
    from jepalm.cli.refining import kept_of, refining_of
    from jepalm.cli.texts import TextRequest, given_text, print_notes, refuse
    from jepalm.cli.verifying import open_drafter, open_verifier, show_verified
    from jepalm.config import from_mapping, runs_root
    from jepalm.encodings import plain
    from jepalm.errors import UsageError
    from jepalm.generation.loading import load_folder
    from jepalm.generation.prompts import cut_note, read_action
    from jepalm.generation.sampling import Sampling
    from jepalm.generation.writer import TEXTS_AT_ONCE
    from jepalm.generation.writers import WritingOptions, default_temperature
    from jepalm.shell import command

    if infill is not None:
        raise UsageError("--infill is a command of its own", command("infill", infill))
    if (prompt is None) == (prompts is None):
        message = "nothing to read" if prompt is None else "--prompts does not go with a prompt"
        raise UsageError(message, "give a text to go on from, or --prompts FILE")
    refining, kept = refining_of(refine, order, entropy_bound), kept_of("--keep", keep)
    if len(kept) > 1:
        raise UsageError(f"--keep {keep} is more than one", "jepalm evaluate compares several")
    precision = precision or ("auto" if verify is None else "fp32")
    hardware = from_mapping({"hardware": {"device": device, "precision": precision}}).hardware
    asked, where = (
        TextRequest(samples, seed, as_json, show_embeddings, data_dir),
        run or runs_root() / "latest",
    )
    if verify is not None:
        needless = {
            "--prompts": prompts is not None,
            "--action": action is not None,
            "--length-candidates": length_candidates > 1,
            "--beams": beams > 1,
            "--passages": passages > 1,
            "--refine": refine > 1,
            "--keep": keep is not None,
            "--show-embeddings": show_embeddings,
        }
        refuse(needless, "--verify", "give a prompt and --length")
        drafting = open_drafter(where, checkpoint, hardware)
        verifying = open_verifier(verify, drafting, hardware)
        text = given_text(prompt or "")
        sampling = Sampling(float(samples > 1) if temperature is None else temperature, top_k, top_p)
        show_verified(drafting, verifying, text, length, sampling, asked)
        return
    trained = load_folder(where, checkpoint, hardware)
    lines = [] if prompts is None else read_lines(prompts)
    text = given_text(prompt or "")
    act = read_action(trained, None if action is None else plain(action))
    if act is not None and (n_tokens := len(trained.tokenizer.encode(plain(action or "")))) > len(act):
        print_notes([cut_note("action", n_tokens, len(act))])
    if act is not None and passages > 1:
        raise UsageError("--action does not go with --passages", "an action makes one passage")
    options = WritingOptions(
        temperature=default_temperature(trained, temperature, samples),
        length=length,
        passages=passages,
        top_k=top_k,
        top_p=top_p,
        length_candidates=length_candidates,
        beams=beams,
        refining=refining,
        keep=kept[0] if kept else None,
        batch_size=max(TEXTS_AT_ONCE, samples),
    )
    if prompts is None:
        _show(trained, options, asked, text, action, act)
        return
    if show_embeddings:
        raise UsageError("--show-embeddings does not go with --prompts", "it shows one passage")
    show_many(trained, options, asked, lines, act)


def _show(
    trained: TrainedModel,
    options: WritingOptions,
    asked: TextRequest,
    text: str,
    action: str | None,
    action_ids: list[int] | None,
) -> None:
    """Write after one prompt and print the texts."""
    import time

    from jepalm.cli.console import print_json
    from jepalm.cli.texts import draw_embeddings, print_cost, print_notes, print_texts
    from jepalm.errors import UsageError
    from jepalm.generation.prompts import read_prompt
    from jepalm.generation.writer import Prompt
    from jepalm.generation.writers import writer_for

    source = read_prompt(trained, text)
    print_notes(source.notes)
    if asked.picture and trained.is_causal:
        raise UsageError("a causal model predicts no embeddings", "leave --show-embeddings out")
    writer = writer_for(trained, options)
    start = time.perf_counter()
    made = writer.write([Prompt(source.ids, action_ids)] * asked.samples, seed=asked.seed)
    trained.hardware.synchronize()
    seconds = time.perf_counter() - start
    texts = [trained.tokenizer.decode(ids) for ids in made.ids]
    picture = draw_embeddings(trained, made.passages[0]) if asked.picture else None
    characters = sum(map(len, texts))
    if not asked.as_json:
        print_texts(texts)
        print_cost(trained, made.batch_nfe, characters, seconds, picture)
        return
    print_json(
        {
            "prompt": trained.tokenizer.decode(source.ids),
            "action": action,
            "texts": texts,
            "nfe": made.batch_nfe,
            "order": options.refining and options.refining.order,
            "seconds": round(seconds, 6),
            "characters": characters,
            "temperature": options.temperature,
            "seed": asked.seed,
            "run": trained.run.name,
            "step": trained.checkpoint.step,
            "embeddings": str(picture) if picture else None,
        }
    )
