"""`jepalm bench`: how fast a run's model writes and trains on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jepalm.cli.options import CheckpointOption, DataDirOption, DeviceOption, JsonOption, RunArgument
from jepalm.cli.torch_import import import_torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

    from jepalm.config import Config, HardwareConfig
    from jepalm.evaluation.speed.bench import Bench
    from jepalm.evaluation.speed.timing import TimingQuartiles
    from jepalm.evaluation.speed.training_step import StepSpeed
    from jepalm.evaluation.speed.verified import VerifiedSpeed
    from jepalm.run import RunFolder

FAMILIES = {"jepalm": "one pass a passage", "causal": "one pass a token, keys and values kept"}
FILE = "bench.json"


def bench(
    run: RunArgument = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Another run to set beside; else an untrained model of the other family."
        ),
    ] = None,
    verify: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="A causal run that verifies the run's drafts, beside itself token by token. teacher: the run"
            " that this one learned from.",
        ),
    ] = None,
    checkpoint: CheckpointOption = None,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="How long each time is measured; three rounds at least.")
    ] = 5.0,
    device: DeviceOption = "auto",
    precision: Annotated[
        str | None, typer.Option(help="auto, fp32, bf16.  [default: the run's]", show_default=False)
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads.  [default: the run's]", show_default=False)
    ] = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how fast a run writes, beside an equal model of the other family, and how fast it trains.

    Example: jepalm bench runs/latest
    """
    import_torch()
    from jepalm.atomic import write_json
    from jepalm.cli.console import console, errors, line, print_json
    from jepalm.cli.verifying import open_verifier
    from jepalm.config import data_root, runs_root
    from jepalm.data.ngram import NGram
    from jepalm.evaluation.speed.bench import Bench
    from jepalm.evaluation.speed.training_step import measure_step
    from jepalm.evaluation.speed.verified import measure_verified
    from jepalm.evaluation.speed.writing import (
        measure_writing,
        real_text,
        timed_model,
        untrained_counterpart,
    )
    from jepalm.evaluation.text.held_out import read_training_text
    from jepalm.evaluation.text.ngram_drafter import NGramDrafter
    from jepalm.generation.loading import load_trained
    from jepalm.generation.verify import check_verifier, drafter_of
    from jepalm.run import now, open_run
    from jepalm.session import new_session
    from jepalm.training.checkpoint import load_model

    folder = open_run(run or runs_root() / "latest")
    other = open_run(baseline) if baseline else None
    config = _on_this_machine(folder, device, precision, threads)
    trained = load_trained(folder, checkpoint, _writing(config))
    text = real_text(trained.data(data_dir), trained)
    if other is not None:
        beside = timed_model(load_trained(other, hardware=_writing(config)), text)
    else:
        beside = untrained_counterpart(trained, text)
    verifying = drafter = None
    if verify is not None:
        verifying, drafter = open_verifier(verify, trained, _writing(config)), drafter_of(trained)
        check_verifier(verifying, trained)
    if errors.is_terminal:
        errors.print("timing training, then writing ...", style="dim")
    with new_session(config, data_root(data_dir)) as session:
        load_model(trained.checkpoint, session.objective)
        training = measure_step(session.objective, session.batches, config, session.hardware, seconds)
        place = session.hardware
    model = timed_model(trained, text)
    writing, nfe = measure_writing(model, beside, text.prompts, seconds)
    verified = None
    if verifying is not None and drafter is not None:
        training_text = read_training_text(trained.data(data_dir))
        ngram = NGram.fit(training_text.ids, trained.tokenizer.vocab_size)
        drafters = {folder.name: drafter, f"{ngram.order}-gram": NGramDrafter(ngram)}
        verified = measure_verified(drafters, verifying, text, seconds)
    measured = Bench(
        run=folder.name,
        step=trained.checkpoint.step,
        created=now(),
        hardware={
            "device": str(place.device),
            "name": place.name,
            "threads": place.threads,
            "precision": place.precision,
            "compiled": place.compile,
        },
        seconds=seconds,
        models={"model": model.description, "baseline": beside.description},
        nfe=nfe,
        writing=writing,
        training=training,
        verified=verified,
    )
    path = folder.path / FILE
    if as_json:
        print_json({**measured.as_json(), "file": str(path)})
    else:
        line("run", f"{measured.run} at step {measured.step:,}")
        line("hardware", place.describe())
        for label, who in header(measured).items():
            line(label, who)
        console.print(table(measured), soft_wrap=False)
    write_json(path, measured.as_json())  # shown first: a folder of someone else's may be read-only
    if not as_json:
        line("file", str(path))


def header(measured: Bench) -> dict[str, str]:
    """Return who writes what, by label."""
    from jepalm.numbers import count

    own = measured.models["model"].parameters
    lines = {}
    for column, model in measured.models.items():
        size = f"{count(model.parameters)} parameters"
        if column != "model":
            size += f" ({100 * (model.parameters / own - 1):+.1f} %)"
        lines[column] = f"{model.name}, {size}, {model.layers}, {FAMILIES[model.family]}"
    lines["writing"] = "64 characters after held-out sources, most likely tokens; tokenizer not timed"
    return lines


def table(measured: Bench) -> Table:
    """Return all measurements as one table, a section a subject."""
    from rich import box
    from rich.table import Table

    from jepalm.cli.console import NARROW, console

    shown = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
    shown.add_column("", overflow="fold")
    for _ in range(3):
        shown.add_column("", justify="right", no_wrap=console.width >= NARROW, overflow="fold")
    _add_writing(shown, measured)
    if measured.verified is not None:
        _add_verified(shown, measured.verified)
    _add_training(shown, measured.training)
    return shown


def _add_writing(shown: Table, measured: Bench) -> None:
    from jepalm.numbers import duration, three

    nfe, of_baseline = measured.nfe["model"], measured.nfe["baseline"]
    shown.add_row("writing 64 characters", "model", "baseline", "baseline / model", style="bold")
    shown.add_row("NFE", f"{nfe}", f"{of_baseline}", three(of_baseline / nfe))
    for speed in measured.writing:
        times, rates = (speed.model, speed.baseline), speed.characters_per_s
        medians = [duration(found.median) for found in times]
        halves = [_half(found, duration) for found in times] + [_half(speed.ratio, three)]
        shown.add_row(f"latency, batch {speed.batch}", *medians, three(speed.ratio.median))
        shown.add_row(f"  middle half, {speed.ratio.n} rounds", *halves, style="dim")
        shown.add_row("  characters a second", *(three(rates[name]) for name in ("model", "baseline")))
        for name, found in speed.further.items():
            shown.add_row(f"  {name}", duration(found.median), "", _over(found, speed.model), style="dim")


def _add_verified(shown: Table, verified: VerifiedSpeed) -> None:
    from jepalm.numbers import counted, duration, three

    shown.add_row()
    writing = f"writing {counted(verified.tokens, 'token')} of {verified.verifier}"
    title = f"{writing}, temperature {verified.temperature:g}"
    shown.add_row(title, "verified", "by token", "by token / verified", style="bold")
    alone = duration(verified.alone.median)
    for name, drafted in verified.drafted.items():
        speed = duration(drafted.seconds.median)
        shown.add_row(f"drafts of {name}", speed, alone, three(drafted.ratio.median))
        halves = [_half(found, duration) for found in (drafted.seconds, verified.alone)]
        half = f"  middle half, {drafted.ratio.n} rounds of {counted(verified.texts, 'text')}"
        shown.add_row(half, *halves, _half(drafted.ratio, three), style="dim")
        shown.add_row("  verifying passes", three(drafted.checks), f"{verified.tokens}")
        shown.add_row("  characters a verifying pass", three(drafted.characters_per_check))
        shown.add_row("  the same text", f"{drafted.same:.0%}")


def _add_training(shown: Table, training: StepSpeed) -> None:
    from rich.text import Text

    from jepalm.numbers import count, duration, percent, three

    shown.add_row()
    shown.add_row(f"training step, batch {training.batch_size}", "", "", "share", style="bold")
    shown.add_row("step", duration(training.seconds.median))
    shown.add_row(
        f"  middle half, {training.seconds.n} rounds", _half(training.seconds, duration), style="dim"
    )
    whole = sum(training.parts.values())
    for part, taken in training.parts.items():
        shown.add_row(f"  {part}", duration(taken), "", percent(taken / whole))
    shown.add_row("target tokens a second", three(training.tokens_per_s))
    shown.add_row("FLOP a step", count(training.flops))
    shown.add_row("FLOP/s", count(training.flops_per_s), "", percent(training.share_of_peak))
    of = "a matrix product here" if training.peak.measured else "peak of the data sheet"
    shown.add_row(f"  {of}", count(training.peak.flops_per_s), "", "100 %", style="dim")
    for precision, rate in training.products.items():
        a_core, reached = count(rate / training.threads), percent(training.flops_per_s / rate)
        shown.add_row(f"  a matrix product in {precision}, a core", a_core, "", reached, style="dim")
    shown.add_row()
    shown.add_row("top operators", "", "calls a step", "share of time", style="bold")
    for operator in training.operators:
        shown.add_row(Text(operator.name), "", three(operator.calls), percent(operator.share))


def _over(times: TimingQuartiles, of: TimingQuartiles) -> str:
    """How many times the other median."""
    from jepalm.numbers import three

    return three(times.median / of.median)


def _half(times: TimingQuartiles, text: Callable[[float], str]) -> str:
    return f"{text(times.low)} to {text(times.high)}"


def _on_this_machine(folder: RunFolder, device: str, precision: str | None, threads: int | None) -> Config:
    """The run's config with the hardware asked for, or what its training chose here."""
    from jepalm.config import from_mapping, read_config
    from jepalm.hardware import as_chosen

    asked = {"device": device, "precision": precision, "threads": threads}
    tree = read_config(folder.config).model_dump()
    tree["hardware"].update({key: value for key, value in asked.items() if value is not None})
    config = from_mapping(tree)
    hardware = as_chosen(config.hardware, folder.read_manifest(), here=True)
    return config.model_copy(update={"hardware": hardware})


def _writing(config: Config) -> HardwareConfig:
    """The same without compiling, which is for training alone."""
    return config.hardware.model_copy(update={"compile": False})
