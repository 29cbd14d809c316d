"""What `jepalm prepare` shows: progress, what was made, what to do next."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import TaskID

    from jepalm.data.job import Outcome
    from jepalm.data.prepared import Meta, PreparedData, SplitName


SPANS_PRESET = "shakespeare-spans"
"""The preset for hidden spans."""
WORLD_PRESET = "transitions"
"""The preset for states and actions."""
_SECONDS_A_LINE = 30.0


@contextmanager
def progress_shown(by_bytes: bool = True) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal, gone when the work is done; elsewhere a line each half minute."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from jepalm.cli.console import NARROW, console

    if not console.is_interactive:
        yield _lines() if by_bytes else lambda stage, done, total: None
        return
    done: tuple[ProgressColumn, ...] = (MofNCompleteColumn(),)
    if by_bytes:
        done = (DownloadColumn(), TransferSpeedColumn())
    if console.width < NARROW:
        done = (TaskProgressColumn(),)
    columns = (TextColumn("{task.description:<9}"), BarColumn(), *done, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def watch(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total or None, completed=done)
            progress.update(tasks[stage], completed=done)

        yield watch


def _lines(clock: Callable[[], float] = time.monotonic) -> Callable[[str, int, int], None]:
    """Tell size, MB/s and time left, at most each half minute."""
    begun: dict[str, tuple[float, int]] = {}
    last = clock()

    def watch(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = clock()
        since, before = begun.setdefault(stage, (now, done))
        if now - last >= _SECONDS_A_LINE and done > before:
            last = now
            labelled(stage, _pace(done, total, (done - before) / (now - since)))

    return watch


def _pace(done: int, total: int, speed: float) -> str:
    from jepalm.data.writing import size

    if total <= done:
        return f"{size(done)}, {size(speed)}/s"
    minutes = math.ceil((total - done) / speed / 60)
    left = f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
    return f"{size(done)} of about {size(total)}, {size(speed)}/s, {left} left"


def show_present(data: PreparedData) -> None:
    """That it was there already, and what to do next."""
    labelled("source", _source(data.meta))
    labelled("present", f"{data.path} is already prepared; --force makes it again")
    _show_next(data)


def show(outcome: Outcome) -> None:
    """What was made and what to do next."""
    from jepalm.data.pairs.chats import in_words
    from jepalm.data.text.resuming import PIECE_BYTES
    from jepalm.data.writing import size
    from jepalm.numbers import are, counted

    data, meta = outcome.data, outcome.data.meta
    if not outcome.made:
        show_present(data)
        return
    labelled("source", _source(meta))
    by_pieces = " by pieces" if meta.origin.own_splits and meta.raw_bytes >= PIECE_BYTES else ""
    labelled("raw", f"{counted(meta.raw_bytes, 'byte')}, SHA-256{by_pieces} {meta.raw_sha256}")
    lines = counted(meta.lines, "row" if meta.pairing == "pairs" else "line")
    characters = counted(meta.characters, "character")
    labelled("text", f"{characters}, {lines}, {meta.distinct_characters:,} distinct")
    if meta.origin.own_splits and meta.pairing != "pairs":
        labelled("documents", _documents(meta))
    labelled("pairs", _pairs(meta))
    labelled("tokenizer", _tokenizer(meta))
    if meta.unknown_tokens:
        shown = " ".join(repr(symbol)[1:-1] for symbol in meta.unknown_characters)
        total = sum(counts.tokens for counts in meta.splits.values())
        labelled(
            "unknown",
            f"{meta.unknown_tokens:,} of {counted(total, 'token')} {are(meta.unknown_tokens)} outside the"
            f" alphabet ({shown}); --alphabet data or --tokenizer byte keeps them",
        )
    if meta.carriage_returns:
        has_flag = meta.pairing != "pairs" and meta.corpus != "shakespeare"
        way = "; --normalize-newlines reads them as newlines" if has_flag else ""
        labelled(
            "newlines",
            f"{counted(meta.carriage_returns, 'carriage return')} (CR LF line ends)"
            f" {are(meta.carriage_returns)} part of the text{way}",
        )
    if meta.request.system:
        labelled("system", "what the system says stands in front of each source")
    if meta.left_out:
        labelled("left out", in_words(meta.left_out))
    if meta.repeated:
        shown = " and ".join(
            f"{count:,} of {counted(meta.splits[name].pairs, 'pair')} of {name}"
            for name, count in meta.repeated.items()
        )
        stand = "stands" if sum(meta.repeated.values()) == 1 else "stand"
        labelled("repeated", f"{shown} {stand} in train, too; --dedup keeps equal pairs in one split")
    if meta.skipped_rows:
        labelled("skipped", counted(meta.skipped_rows, "broken row"))
    speed = size(meta.raw_bytes / max(outcome.seconds, 1e-9))
    labelled("wrote", f"{data.path}  ({size(outcome.n_bytes)}, {outcome.seconds:.2g} s, {speed}/s)")
    _show_next(data)


def _show_next(data: PreparedData) -> None:
    from jepalm.data.tokenizer import parse_tokenizer
    from jepalm.shell import named_data_dir, training

    wanted, preset = data.meta.request.tokenizer, None
    settings: list[str] = []
    if data.meta.pairing == "spans":
        preset = SPANS_PRESET
    elif data.meta.task == "transitions":
        preset = WORLD_PRESET
    if parse_tokenizer(wanted)[0] == "backbone":
        preset, settings = "lora", [f"model.backbone={wanted}"]
    name = data.path.name
    labelled("next", training(preset, name, *settings, data_dir=named_data_dir(data.path, name)))


def _source(meta: Meta) -> str:
    return f"{meta.origin.source} ({', '.join(meta.origin.where)})"


def _pairs(meta: Meta) -> str:
    if meta.pairing in ("windows", "spans"):
        tokens = {name: counts.tokens for name, counts in meta.splits.items()}
        return f"{meta.pairing}: {_by_split(tokens)} tokens"
    lengths = f"target length mean {meta.mean_target:.3g}, standard deviation {meta.std_target:.3g} (train)"
    counts = {name: counts.pairs for name, counts in meta.splits.items()}
    return f"{meta.pairing}: {_by_split(counts)}; {lengths}"


def _documents(meta: Meta) -> str:
    counts = _by_split({name: counts.documents for name, counts in meta.splits.items()})
    taken = [name for name in meta.splits if name not in meta.origin.own_splits]
    return f"{counts}; {' and '.join(taken) + ' taken from train' if taken else 'as the dataset has them'}"


def _by_split(counts: Mapping[SplitName, int]) -> str:
    return " / ".join(f"{count:,} {name}" for name, count in counts.items())


def _tokenizer(meta: Meta) -> str:
    from jepalm.data.tokenizer import SPECIALS, parse_tokenizer

    n_special = len(SPECIALS) + (meta.pairing == "spans")
    text = f"{meta.tokenizer}, {meta.vocab_size - n_special:,} symbols + {n_special}"
    wanted = meta.request.tokenizer
    if parse_tokenizer(wanted)[0] == "backbone":
        return f"{text}, of {wanted}"
    return (
        text if wanted in (meta.tokenizer, "char") else f"{text} (the text gave no more; {wanted} was asked)"
    )


def labelled(label: str, text: str) -> None:
    """Print one labelled line."""
    from jepalm.cli.console import line

    line(label, text)
