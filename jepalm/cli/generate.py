"""`jepalm generate`: prompts to text, in one pass, in several, or token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="Text to read; - reads standard input.", show_default=False)
    ] = None,
    infill: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Fill the gaps of this text instead, a token for each _; - reads standard input.",
            show_default=False,
        ),
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
    run: Annotated[
        Path | None, typer.Option(help="Run folder.  [default: runs/latest]", show_default=False)
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="last, best, or a step.")] = "last",
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
        typer.Option(min=1, help="Likeliest lengths to write; the text the decoder is surest of is kept."),
    ] = 1,
    passages: Annotated[
        int, typer.Option(min=1, help="Passages to write, each the next one's source, as text.")
    ] = 1,
    samples: Annotated[int, typer.Option(min=1, help="Texts to write.")] = 1,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="0: the most likely token.  [default: 0; 1 for several samples, or a model with noise]",
            show_default=False,
        ),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Causal models: draw from this many most likely tokens.")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(min=1e-6, max=1.0, help="Causal models: draw from the tokens that hold this chance."),
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
        float | None,
        typer.Option(min=0.0, help="Nats that --order entropy decides in a pass.  [default: 1]"),
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
    discard: Annotated[
        float,
        typer.Option(
            min=0.0, max=0.99, help="Share of each passage but the last, its end, that is thrown away."
        ),
    ] = 0.0,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="N|P",
            help="With --length: keep the first N tokens of each passage, or, below 1, as many as are"
            " together at least so likely.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, mps.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, fp32, bf16.  [default: auto; fp32 with --verify]", show_default=False)
    ] = "",
    show_embeddings: Annotated[
        bool,
        typer.Option(
            "--show-embeddings",
            help="Write a heat map of the predicted embeddings into the run's report folder.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write the next passage in one pass; with a causal model, one pass a token.

    Example: jepalm generate "To be"; many: jepalm generate --prompts questions.txt

    A model of hidden spans: jepalm generate --infill "To be, or ____ to be"

    The text of a causal run in fewer passes: jepalm generate "To be" --verify runs/TEACHER
    """
    import json
    import sys
    import time

    from jepalm.cli.console import console, errors
    from jepalm.cli.infill import show_filled
    from jepalm.cli.prompts import show_many
    from jepalm.cli.refining import kept_of, refining_of
    from jepalm.cli.verifying import open_drafter, open_verifier, show_verified
    from jepalm.cli.written import show_how
    from jepalm.config import from_mapping, runs_root
    from jepalm.errors import UsageError
    from jepalm.generation.loading import load_trained
    from jepalm.generation.text import continue_text, read_action, read_prompt
    from jepalm.generation.token_by_token import Sampling
    from jepalm.run import open_run

    given = {"a prompt": prompt, "--infill": infill, "--prompts": prompts}
    if len(named := [name for name, value in given.items() if value is not None]) != 1:
        message = f"{named[-1]} does not go with {named[0]}" if named else "nothing to read"
        raise UsageError(message, "give a text to go on from, --prompts FILE, or --infill TEXT with gaps")
    text = infill or prompt or ""
    refining = refining_of(refine, order, entropy_bound)
    if discard and passages == 1:
        raise UsageError("--discard does nothing with one passage", "give --passages, or leave it out")
    kept = kept_of("--keep", keep)
    if len(kept) > 1:
        raise UsageError(f"--keep {keep} is more than one", "jepalm evaluate compares several")
    chosen = precision or ("auto" if verify is None else "fp32")
    hardware = from_mapping({"hardware": {"device": device, "precision": chosen}}).hardware
    if verify is not None:
        needless = {
            "--infill": infill is not None,
            "--prompts": prompts is not None,
            "--action": action is not None,
            "--length-candidates": length_candidates > 1,
            "--passages": passages > 1,
            "--refine": refine > 1,
            "--keep": keep is not None,
            "--show-embeddings": show_embeddings,
        }
        _check_given(needless, "--verify", "give a prompt and --length")
        drafting = open_drafter(run or runs_root() / "latest", checkpoint, hardware)
        drawn = temperature if temperature is not None else float(samples > 1)
        show_verified(
            drafting,
            open_verifier(verify, drafting, hardware),
            standard_input() if text == "-" else text,
            samples=samples,
            length=length,
            sampling=Sampling(drawn, top_k, top_p),
            seed=seed,
            as_json=as_json,
        )
        return
    folder = open_run(run or runs_root() / "latest")
    trained = load_trained(folder, checkpoint, hardware)
    lines = [] if prompts is None else _lines(prompts)
    text = standard_input() if text == "-" else text
    noisy = trained.config.model.predictor.noise != "none"
    drawn = temperature if temperature is not None else float(samples > 1 or noisy)
    if infill is not None:
        _check_given(
            {
                "--action": action is not None,
                "--length": length is not None,
                "--length-candidates": length_candidates > 1,
                "--passages": passages > 1,
                "--top-k": top_k is not None,
                "--top-p": top_p is not None,
                "--refine": refine > 1,
                "--keep": keep is not None,
            },
            "--infill",
            "the gaps say where and how much to write",
        )
        show_filled(
            trained,
            text,
            samples=samples,
            temperature=drawn,
            seed=seed,
            as_json=as_json,
            draw=_draw if show_embeddings else None,
        )
        return
    act = None if action is None else read_action(trained, action)
    if act is not None and passages > 1:
        raise UsageError("--action does not go with --passages", "an action makes one passage")
    settings: dict[str, Any] = {
        "action": act,
        "passages": passages,
        "samples": samples,
        "length": length,
        "length_candidates": length_candidates,
        "temperature": drawn,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "refining": refining,
        "discard": discard,
        "keep": kept[0] if kept else None,
    }
    if prompts is not None:
        if show_embeddings:
            raise UsageError("--show-embeddings does not go with --prompts", "it shows one passage")
        show_many(trained, lines, **settings)
        return
    source = read_prompt(trained, text)
    for note in source.notes:
        errors.print(f"note: {note}", markup=False)
    if show_embeddings and trained.config.model.family == "causal":
        raise UsageError("a causal model predicts no embeddings", "leave --show-embeddings out")
    start = time.perf_counter()
    made = continue_text(trained, source, **settings)
    trained.hardware.synchronize()
    seconds = time.perf_counter() - start
    picture = _draw(trained, made.passages[0]) if show_embeddings else None
    characters = sum(map(len, made.text))
    if as_json:
        row = {
            "prompt": trained.tokenizer.decode(source.ids),
            "action": action,
            "texts": made.text,
            "passes": made.passes,
            "order": refining and refining.order,
            "seconds": round(seconds, 6),
            "characters": characters,
            "temperature": drawn,
            "seed": seed,
            "run": folder.name,
            "step": trained.checkpoint.step,
            "embeddings": str(picture) if picture else None,
        }
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        return
    for text in made.text:
        console.print(text, markup=False, end="" if text.endswith("\n") else "\n")
    show_how(trained, made.passes, characters, seconds, picture)


def _check_given(flags: dict[str, bool], beside: str, hint: str) -> None:
    """Refuse what does nothing beside another flag."""
    from jepalm.errors import UsageError

    for flag, given in flags.items():
        if given:
            raise UsageError(f"{flag} does not go with {beside}", hint)


def _lines(path: Path) -> list[str]:
    """The lines of a file without their ends, or those of standard input."""
    from jepalm.errors import UsageError

    if str(path) == "-":
        text = standard_input()
    else:
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}", "--prompts takes a text file") from None
        except UnicodeDecodeError:
            raise UsageError(f"{path} is not UTF-8 text", "convert it first") from None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def standard_input() -> str:
    """All of the standard input.

    Raises:
        UsageError: it is not UTF-8.
    """
    import sys

    from jepalm.errors import UsageError

    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError("standard input is not UTF-8 text", "convert it first") from None


def _draw(trained, passage) -> Path:  # type: ignore[no-untyped-def]
    from jepalm.report.plots.heatmap import embedding_heatmap

    row, each = passage.rows()[0], passage.tokens_per_embedding
    labels = [trained.tokenizer.decode(row[at : at + each]) for at in range(0, len(row), each)]
    path: Path = trained.run.report / "embeddings.png"
    path.parent.mkdir(exist_ok=True)
    values = passage.embeddings[0, : len(labels)].float().cpu().numpy()
    embedding_heatmap(
        values, labels, path, f"Predicted embeddings, {trained.run.name} at step {trained.checkpoint.step:,}"
    )
    return path
