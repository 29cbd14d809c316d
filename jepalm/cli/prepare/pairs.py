"""`jepalm prepare pairs` and `jepalm prepare nl-rx`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jepalm.cli.prepare.options import (
    Alphabet,
    AlphabetOption,
    ConfigOption,
    DataDirOption,
    ForceOption,
    FromOption,
    LicenceOption,
    NameOption,
    RevisionOption,
    SplitBy,
    SplitByOption,
    SplitOption,
    TokenizerOption,
    asked_for,
    named_after,
    request_of,
)
from jepalm.cli.prepare.output import labelled, progress_shown, show

if TYPE_CHECKING:
    from jepalm.data.pairs.reading import PairSource
    from jepalm.data.prepared import Origin, Request, SplitName


class TaskName(enum.StrEnum):
    """How an answer is scored."""

    text = "text"
    regex = "regex"
    gsm8k = "gsm8k"
    spider = "spider"
    nq_open = "nq-open"
    g2p = "g2p"


def pairs(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE.jsonl",
            help='Rows {"source", "target", "action"?}, chats {"messages"} or {"conversations"},'
            ' or {"instruction", "input", "output"}.',
            show_default=False,
        ),
    ] = None,
    given: FromOption = None,
    config: ConfigOption = None,
    revision: RevisionOption = None,
    validation: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="All of validation, instead of a share of FILE.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="All of test, instead of a share of FILE.")
    ] = None,
    task: Annotated[
        TaskName,
        typer.Option(
            help="How answers are scored: as text, as expressions by their lines, as pronunciations (g2p), or"
            " as a published task, whose own rows are read too."
        ),
    ] = TaskName.text,
    name: NameOption = None,
    tokenizer: TokenizerOption = "char",
    alphabet: AlphabetOption = Alphabet.fixed,
    split: SplitOption = "90/5/5",
    split_by: SplitByOption = SplitBy.order,
    system: Annotated[
        bool, typer.Option("--system", help="Keep what the system says in a chat, in front of each source.")
    ] = False,
    dedup: Annotated[bool, typer.Option("--dedup", help="Keep equal pairs in one split.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave broken rows out and count them.")
    ] = False,
    licence: LicenceOption = "not stated",
    data_dir: DataDirOption = None,
    force: ForceOption = False,
) -> None:
    """Your own pairs, one JSON row a line or one array of them; the folder is named after the file.

    Example: jepalm prepare pairs chats.jsonl --tokenizer byte

    With a test split of its own: jepalm prepare pairs train.jsonl --test test.jsonl

    A published task: jepalm prepare pairs --from openai/gsm8k --config main --task gsm8k
    """
    from jepalm.data.pairs.preparing import prepare_pairs
    from jepalm.errors import UsageError

    if (file is None) == (given is None):
        raise UsageError("give either a file of pairs or --from", "jepalm prepare pairs FILE.jsonl")
    held_out: dict[SplitName, Path | None] = {"validation": validation, "test": test}
    files = {split: path for split, path in held_out.items() if path is not None}
    if given is not None and files:
        raise UsageError("--validation and --test do not go with --from", "a dataset has splits of its own")
    if dedup and split_by == SplitBy.source:
        hint = "equal pairs have equal sources, which are in one split already"
        raise UsageError("--dedup does nothing with --split-by source", hint)
    if file is not None and (config or revision):
        raise UsageError("--config and --revision go with --from", "a file has neither")
    request = request_of(
        "pairs", tokenizer, alphabet, split, task.value, split_by, system=system, dedup=dedup
    )
    asked = asked_for(name or named_after(file or Path(str(given))), request, data_dir, force)
    if file is not None:
        origin, source = _from_files(file, files, request, skip_bad)
    else:
        origin, source = _from_dataset(str(given), config, revision, request, skip_bad)
    with progress_shown() as watch:
        outcome = prepare_pairs(asked.job("pairs", origin, licence, watch), source)
    show(outcome)


def _from_files(
    file: Path, held_out: dict[SplitName, Path], request: Request, skip_bad: bool
) -> tuple[Origin, PairSource]:
    from jepalm.data.pairs.reading import PairFiles
    from jepalm.data.pairs.tasks import format_of
    from jepalm.data.prepared import Origin

    where = [str(file), *(f"{split}: {path}" for split, path in held_out.items())]
    source = PairFiles(file, skip_bad, held_out, format_of(request.task, request.system).pairs)
    return Origin(source="given pairs", where=where), source


def _from_dataset(
    name: str, config: str | None, revision: str | None, request: Request, skip_bad: bool
) -> tuple[Origin, PairSource]:
    from jepalm.data.hub import Corpus, open_hub
    from jepalm.data.pairs.datasets import DatasetPairs
    from jepalm.data.pairs.tasks import format_of

    task_format = format_of(request.task, request.system)
    opened = open_hub(Corpus(name, config), revision, task_format.columns)
    return opened.origin, DatasetPairs(opened, task_format, skip_bad)


def nl_rx(
    pairs: Annotated[int, typer.Option(min=3, metavar="N", help="Number of pairs.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    keep_degenerate: Annotated[
        bool,
        typer.Option("--keep-degenerate", help="Keep, in train, expressions of no line or of every line."),
    ] = False,
    name: NameOption = None,
    tokenizer: TokenizerOption = "bpe:512",
    alphabet: AlphabetOption = Alphabet.fixed,
    split: SplitOption = "80/10/10",
    data_dir: DataDirOption = None,
    force: ForceOption = False,
) -> None:
    """English sentences and the regular expressions that they mean, drawn; no test language is trained on.

    Example: jepalm prepare nl-rx --pairs 50000 --seed 1
    """
    from jepalm.data.job import counter
    from jepalm.data.pairs.preparing import prepare_pairs
    from jepalm.data.prepared import Drawn, Origin
    from jepalm.data.regex.pairs import draw_pairs

    drawn = Drawn(pairs=pairs, seed=seed, keep_degenerate=keep_degenerate)
    request = request_of("pairs", tokenizer, alphabet, split, task="regex", drawn=drawn)
    asked = asked_for(name or "nl-rx", request, data_dir, force)
    if asked.present():
        return
    origin = Origin(source="drawn from the grammar of NL-RX", where=[f"seed {seed}"])
    with progress_shown(by_bytes=False) as watch:
        source = draw_pairs(drawn, request.split, counter(watch, "drawing", pairs))
    with progress_shown() as watch:
        job = asked.job("nl-rx", origin, "none needed: drawn, not copied", watch)
        outcome = prepare_pairs(job, source)
    share = 100 * source.degenerate / source.drawn
    kept = "kept in train" if keep_degenerate else "dropped"
    shown = f"{source.drawn:,} different sentences, {share:.3g} % of them of no line or every line: {kept}"
    labelled("drawn", shown)
    show(outcome)
