"""`jepalm prepare`: text or pairs in, prepared data out."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jepalm.cli.prepare_datasets import FromOption, RevisionOption, dataset, openwebtext, wikitext_103
from jepalm.cli.prepare_options import (
    Alphabet,
    AlphabetOption,
    DataDirOption,
    ForceOption,
    LicenceOption,
    NameOption,
    Pairing,
    PairingOption,
    SplitOption,
    TokenizerOption,
    job_of,
    named_after,
    request_of,
)
from jepalm.cli.prepare_output import counter, labelled, progress_shown, show, show_present
from jepalm.cli.prepare_transitions import transitions

if TYPE_CHECKING:
    from jepalm.data.prepared import SplitName


class Scoring(enum.StrEnum):
    """How an answer is scored."""

    text = "text"
    regex = "regex"
    gsm8k = "gsm8k"
    spider = "spider"
    nq_open = "nq-open"


prepare_app = typer.Typer(
    help="Make training data from a corpus, text or pairs.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    from jepalm.data.job import already_prepared, check_request
    from jepalm.data.preparing import prepare_text
    from jepalm.data.shakespeare import LICENCE, find_shakespeare

    root = data_root(data_dir)
    name = name or "shakespeare"
    request = request_of(pairing, tokenizer, alphabet, split)
    check_request(name, request)
    present = None if force or given else already_prepared(root, name, request)
    if present is not None:
        show_present(present)
        return
    found = find_shakespeare(root, given)
    for refusal in found.refused:
        labelled("skipped", refusal)
    with progress_shown() as watch:
        job = job_of(root, name, "shakespeare", found.origin, LICENCE, request, force, watch)
        outcome = prepare_text(job, found.text)
    show(outcome)


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

    request = request_of(pairing, tokenizer, alphabet, split)
    origin = Origin(source="given text", where=[str(path) for path in files])
    name = name or named_after(files[0])
    with progress_shown() as watch:
        job = job_of(data_root(data_dir), name, "text", origin, licence, request, force, watch)
        outcome = prepare_text(job, RawText(tuple(files)))
    show(outcome)


@prepare_app.command()
def pairs(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE.jsonl",
            help='Rows {"source", "target", "action"?} or {"messages"}.',
            show_default=False,
        ),
    ] = None,
    given: FromOption = None,
    config: Annotated[
        str | None, typer.Option(metavar="CONFIG", help="Of that dataset, where it has several.")
    ] = None,
    revision: RevisionOption = None,
    validation: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="All of validation, instead of a share of FILE.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="All of test, instead of a share of FILE.")
    ] = None,
    task: Annotated[
        Scoring,
        typer.Option(
            help="How answers are scored: as text, as expressions by their lines, or as a published task,"
            " whose own rows are read too."
        ),
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

    A published task: jepalm prepare pairs --from openai/gsm8k --config main --task gsm8k
    """
    from jepalm.config import data_root
    from jepalm.data.prepared import Origin
    from jepalm.data.preparing import prepare_rows
    from jepalm.data.reading import RawRows, Rows
    from jepalm.data.tasks import reading_of
    from jepalm.errors import UsageError

    if (file is None) == (given is None):
        raise UsageError("give either a file of pairs or --from", "jepalm prepare pairs FILE.jsonl")
    held_out: dict[SplitName, Path | None] = {"validation": validation, "test": test}
    files = {split: path for split, path in held_out.items() if path is not None}
    if given is not None and files:
        raise UsageError("--validation and --test do not go with --from", "a dataset has splits of its own")
    if file is not None and (config or revision):
        raise UsageError("--config and --revision go with --from", "a file has neither")
    request = request_of("pairs", tokenizer, alphabet, split, task=task.value)
    reading = reading_of(request.task)
    raw: Rows
    if file is not None:
        where = [str(file), *(f"{split}: {path}" for split, path in files.items())]
        origin = Origin(source="given pairs", where=where)
        raw = RawRows(file, skip_bad, files, reading.parse, reading.check)
    else:
        from jepalm.data.hub import Corpus, open_hub
        from jepalm.data.hub_rows import HubRows
        from jepalm.data.tasks import column_of

        opened = open_hub(Corpus(str(given), config, column_of(request.task)), revision)
        origin, raw = opened.origin, HubRows(opened, reading, skip_bad)
    name = name or named_after(file or Path(str(given)))
    with progress_shown() as watch:
        job = job_of(data_root(data_dir), name, "pairs", origin, licence, request, force, watch)
        outcome = prepare_rows(job, raw)
    show(outcome)


@prepare_app.command("nl-rx")
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
    from jepalm.config import data_root
    from jepalm.data.job import already_prepared, check_request
    from jepalm.data.prepared import Drawn, Origin
    from jepalm.data.preparing import prepare_rows
    from jepalm.data.regex.pairs import draw_rows

    root = data_root(data_dir)
    name = name or "nl-rx"
    asked = Drawn(pairs=pairs, seed=seed, keep_degenerate=keep_degenerate)
    request = request_of("pairs", tokenizer, alphabet, split, task="regex", drawn=asked)
    check_request(name, request)
    present = None if force else already_prepared(root, name, request)
    if present is not None:
        show_present(present)
        return
    origin = Origin(source="drawn from the grammar of NL-RX", where=[f"seed {seed}"])
    with progress_shown(by_bytes=False) as watch:
        raw = draw_rows(asked, request.split, counter(watch, "drawing", pairs))
    with progress_shown() as watch:
        job = job_of(root, name, "nl-rx", origin, "none needed: drawn, not copied", request, force, watch)
        outcome = prepare_rows(job, raw)
    kept = "kept in train" if keep_degenerate else "dropped"
    share = 100 * raw.degenerate / raw.drawn
    labelled(
        "drawn", f"{raw.drawn:,} different sentences, {share:.3g} % of them of no line or every line: {kept}"
    )
    show(outcome)


prepare_app.command()(transitions)
prepare_app.command("wikitext-103")(wikitext_103)
prepare_app.command()(openwebtext)
prepare_app.command()(dataset)
