"""`jepalm prepare`: text or pairs in, prepared data out."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import TaskID

    from jepalm.data.prepared import Drawn, Meta, Origin, PreparedData, Request, SplitName, Task
    from jepalm.data.preparing import Job, Outcome, Watch

SPANS_PRESET = "shakespeare-spans"
"""The preset for hidden spans, and the name of its data."""

prepare_app = typer.Typer(
    help="Make training data from a corpus, text or pairs.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Pairing(enum.StrEnum):
    """How a text becomes pairs."""

    lines = "lines"
    windows = "windows"
    spans = "spans"


class Scoring(enum.StrEnum):
    """How an answer is scored."""

    text = "text"
    regex = "regex"


class Alphabet(enum.StrEnum):
    """Which symbols a `char` tokenizer knows."""

    fixed = "fixed"
    data = "data"


PairingOption = Annotated[
    Pairing,
    typer.Option(
        help="lines: each line predicts the next. windows: what follows, anywhere. spans: gaps inside a text."
    ),
]
TokenizerOption = Annotated[
    str,
    typer.Option(
        metavar="char|byte|bpe:SIZE|MODEL",
        help="How text becomes tokens; MODEL: as a Hugging Face model does, given by its folder or name.",
    ),
]
AlphabetOption = Annotated[
    Alphabet, typer.Option(help="For char: printable ASCII, tab and newline, or the symbols that occur.")
]
SplitOption = Annotated[
    str, typer.Option(metavar="A/B/C", help="Percent of the text in train, validation and test.")
]
NameOption = Annotated[str | None, typer.Option(metavar="NAME", help="Name of the folder that is made.")]
LicenceOption = Annotated[
    str, typer.Option(metavar="TEXT", help="Licence of the text, written down with it.")
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of prepared data. [env: JEPALM_DATA; default: data]"),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Make it again, in place of what is there.")]


@prepare_app.command()
def shakespeare(
    given: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Use this file instead of looking for one.")
    ] = None,
    name: NameOption = None,
    pairing: PairingOption = Pairing.lines,
    tokenizer: TokenizerOption = "char",
    alphabet: AlphabetOption = Alphabet.fixed,
    split: SplitOption = "90/5/5",
    data_dir: DataDirOption = None,
    force: ForceOption = False,
) -> None:
    """Tiny Shakespeare: the given file, the kept one, the download, or the offline plays.

    Example: jepalm prepare shakespeare
    """
    from jepalm.config import data_root
    from jepalm.data.preparing import already_prepared, check_request, prepare_text
    from jepalm.data.shakespeare import LICENCE, find_shakespeare

    root = data_root(data_dir)
    name = name or "shakespeare"
    request = _request(pairing, tokenizer, alphabet, split)
    check_request(name, request)
    present = None if force or given else already_prepared(root, name, request)
    if present is not None:
        _show_present(present)
        return
    found = find_shakespeare(root, given)
    for refusal in found.refused:
        _line("skipped", refusal)
    with _progress() as watch:
        job = _job(root, name, "shakespeare", found.origin, LICENCE, request, force, watch)
        outcome = prepare_text(job, found.text)
    _show(outcome)


@prepare_app.command()
def text(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="UTF-8 text, read in this order.")],
    name: NameOption = None,
    pairing: PairingOption = Pairing.lines,
    tokenizer: TokenizerOption = "char",
    alphabet: AlphabetOption = Alphabet.fixed,
    split: SplitOption = "90/5/5",
    licence: LicenceOption = "not stated",
    data_dir: DataDirOption = None,
    force: ForceOption = False,
) -> None:
    """Your own text; the folder is named after the first file.

    Example: jepalm prepare text novel.txt --tokenizer bpe:4096
    """
    from jepalm.config import data_root
    from jepalm.data.prepared import Origin
    from jepalm.data.preparing import prepare_text
    from jepalm.data.reading import RawText

    request = _request(pairing, tokenizer, alphabet, split)
    origin = Origin(source="given text", where=[str(path) for path in files])
    name = name or _named_after(files[0])
    with _progress() as watch:
        job = _job(data_root(data_dir), name, "text", origin, licence, request, force, watch)
        outcome = prepare_text(job, RawText(tuple(files)))
    _show(outcome)


@prepare_app.command()
def pairs(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE.jsonl", help='Rows {"source", "target", "action"?} or {"messages"}.'),
    ],
    validation: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="All of validation, instead of a share of FILE.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="All of test, instead of a share of FILE.")
    ] = None,
    task: Annotated[
        Scoring, typer.Option(help="How answers are scored; regex: by the lines that they describe.")
    ] = Scoring.text,
    name: NameOption = None,
    tokenizer: TokenizerOption = "char",
    alphabet: AlphabetOption = Alphabet.fixed,
    split: SplitOption = "90/5/5",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave broken rows out and count them.")
    ] = False,
    licence: LicenceOption = "not stated",
    data_dir: DataDirOption = None,
    force: ForceOption = False,
) -> None:
    """Your own pairs, one JSON row a line; the folder is named after the file.

    Example: jepalm prepare pairs chats.jsonl --tokenizer byte

    With a test split of its own: jepalm prepare pairs train.jsonl --test test.jsonl
    """
    from jepalm.config import data_root
    from jepalm.data.prepared import Origin
    from jepalm.data.preparing import prepare_rows
    from jepalm.data.reading import RawRows
    from jepalm.data.regex.pairs import check_pair

    held_out: dict[SplitName, Path | None] = {"validation": validation, "test": test}
    given = {split: path for split, path in held_out.items() if path is not None}
    request = _request("pairs", tokenizer, alphabet, split, task=task.value)
    where = [str(file), *(f"{split}: {path}" for split, path in given.items())]
    origin = Origin(source="given pairs", where=where)
    raw = RawRows(file, skip_bad, given)
    if task is Scoring.regex:
        raw.check = check_pair
    name = name or _named_after(file)
    with _progress() as watch:
        job = _job(data_root(data_dir), name, "pairs", origin, licence, request, force, watch)
        outcome = prepare_rows(job, raw)
    _show(outcome)


@prepare_app.command("nl-rx")
def nl_rx(
    pairs: Annotated[int, typer.Option(min=3, metavar="N", help="Number of pairs.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    keep_degenerate: Annotated[
        bool,
        typer.Option("--keep-degenerate", help="Keep, in train, expressions of no line or of every line."),
    ] = False,
    name: NameOption = None,
    tokenizer: TokenizerOption = "char",
    alphabet: AlphabetOption = Alphabet.fixed,
    split: SplitOption = "80/10/10",
    data_dir: DataDirOption = None,
    force: ForceOption = False,
) -> None:
    """English sentences and the regular expressions that they mean, drawn; no test language is trained on.

    Example: jepalm prepare nl-rx --pairs 50000 --seed 1
    """
    from jepalm.config import data_root
    from jepalm.data.prepared import Drawn, Origin
    from jepalm.data.preparing import already_prepared, check_request, prepare_rows
    from jepalm.data.regex.pairs import draw_rows

    root = data_root(data_dir)
    name = name or "nl-rx"
    asked = Drawn(pairs=pairs, seed=seed, keep_degenerate=keep_degenerate)
    request = _request("pairs", tokenizer, alphabet, split, task="regex", drawn=asked)
    check_request(name, request)
    present = None if force else already_prepared(root, name, request)
    if present is not None:
        _show_present(present)
        return
    origin = Origin(source="drawn from the grammar of NL-RX", where=[f"seed {seed}"])
    with _progress(by_bytes=False) as watch:
        raw = draw_rows(asked, request.split, _counter(watch, "drawing", pairs))
    with _progress() as watch:
        job = _job(root, name, "nl-rx", origin, "none needed: drawn, not copied", request, force, watch)
        outcome = prepare_rows(job, raw)
    kept = "kept in train" if keep_degenerate else "dropped"
    share = 100 * raw.degenerate / raw.drawn
    _line(
        "drawn", f"{raw.drawn:,} different sentences, {share:.3g} % of them of no line or every line: {kept}"
    )
    _show(outcome)


def _request(
    pairing: str,
    tokenizer: str,
    alphabet: Alphabet,
    split: str,
    task: Task = "text",
    drawn: Drawn | None = None,
) -> Request:
    from jepalm.data.prepared import Request
    from jepalm.errors import UsageError

    try:
        train, validation, test = (float(part) for part in split.split("/"))
    except ValueError:
        raise UsageError(f"cannot read --split {split}", "three percentages, such as 90/5/5") from None
    return Request.model_validate(
        {
            "pairing": str(pairing),
            "tokenizer": tokenizer,
            "alphabet": alphabet.value,
            "split": (train, validation, test),
            "task": task,
            "drawn": drawn,
        }
    )


def _job(
    root: Path,
    name: str,
    corpus: str,
    origin: Origin,
    licence: str,
    request: Request,
    force: bool,
    watch: Watch,
) -> Job:
    from jepalm.data.preparing import Job

    return Job(root, name, corpus, origin, licence, request, force, watch)


def _named_after(path: Path) -> str:
    import re

    return re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).strip(".-") or "text"


@contextmanager
def _progress(by_bytes: bool = True) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal, nothing elsewhere; gone when the work is done."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from jepalm.cli.console import console

    done = DownloadColumn() if by_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description:<9}"), BarColumn(), done, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def watch(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done)

        yield watch


def _counter(watch: Watch, stage: str, total: int) -> Callable[[int], None]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        watch(stage, done, total)

    return advance


def _show_present(data: PreparedData) -> None:
    _line("source", _source(data.meta))
    _line("present", f"{data.path} is already prepared; --force makes it again")
    _show_next(data)


def _show(outcome: Outcome) -> None:
    from jepalm.data.writing import size

    data, meta = outcome.data, outcome.data.meta
    if not outcome.made:
        _show_present(data)
        return
    _line("source", _source(meta))
    _line("raw", f"{meta.raw_bytes:,} bytes, SHA-256 {meta.raw_sha256}")
    unit = "rows" if meta.pairing == "pairs" else "lines"
    _line(
        "text",
        f"{meta.characters:,} characters, {meta.lines:,} {unit}, {meta.distinct_characters:,} distinct",
    )
    _line("pairs", _pairs(meta))
    _line("tokenizer", _tokenizer(meta))
    if meta.unknown_tokens:
        shown = " ".join(repr(symbol)[1:-1] for symbol in meta.unknown_characters)
        total = sum(counts.tokens for counts in meta.splits.values())
        _line(
            "unknown",
            f"{meta.unknown_tokens:,} of {total:,} tokens are outside the alphabet ({shown}); "
            "--alphabet data or --tokenizer byte keeps them",
        )
    if meta.skipped_rows:
        _line("skipped", f"{meta.skipped_rows:,} broken rows")
    speed = size(meta.raw_bytes / max(outcome.seconds, 1e-9))
    _line("wrote", f"{data.path}  ({size(outcome.n_bytes)}, {outcome.seconds:.2g} s, {speed}/s)")
    _show_next(data)


def _show_next(data: PreparedData) -> None:
    from jepalm.config import data_root
    from jepalm.data.tokenizer import parse_tokenizer

    name: str = data.path.name
    if data.path.parent != data_root():
        name = str(data.path)
    if data.meta.pairing == "spans":
        command, preset_has = f"jepalm train --preset {SPANS_PRESET}", SPANS_PRESET
    else:
        command, preset_has = "jepalm train", "shakespeare"
    if parse_tokenizer(data.meta.request.tokenizer)[0] == "backbone":
        command = f"jepalm train --preset lora model.backbone={data.meta.request.tokenizer}"
    _line("next", command if name == preset_has else f"{command} --data {name}")


def _source(meta: Meta) -> str:
    return f"{meta.origin.source} ({', '.join(meta.origin.where)})"


def _pairs(meta: Meta) -> str:
    if meta.pairing in ("windows", "spans"):
        tokens = {name: counts.tokens for name, counts in meta.splits.items()}
        return f"{meta.pairing}: {_by_split(tokens)} tokens"
    lengths = f"target length mean {meta.mean_target:.3g}, standard deviation {meta.std_target:.3g} (train)"
    counts = {name: counts.pairs for name, counts in meta.splits.items()}
    return f"{meta.pairing}: {_by_split(counts)}; {lengths}"


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


def _line(label: str, text: str) -> None:
    from jepalm.cli.console import line

    line(label, text)
