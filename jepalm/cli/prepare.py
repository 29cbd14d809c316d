"""`jepalm prepare`: text or pairs in, prepared data out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jepalm.cli.prepare_datasets import dataset, openwebtext, wikitext_103
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
from jepalm.cli.prepare_output import labelled, progress_shown, show, show_present

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
        Path,
        typer.Argument(metavar="FILE.jsonl", help='Rows {"source", "target", "action"?} or {"messages"}.'),
    ],
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
    """
    from jepalm.config import data_root
    from jepalm.data.prepared import Origin
    from jepalm.data.preparing import prepare_rows
    from jepalm.data.reading import RawRows

    request = request_of("pairs", tokenizer, alphabet, split)
    origin = Origin(source="given pairs", where=[str(file)])
    name = name or named_after(file)
    with progress_shown() as watch:
        job = job_of(data_root(data_dir), name, "pairs", origin, licence, request, force, watch)
        outcome = prepare_rows(job, RawRows(file, skip_bad))
    show(outcome)


prepare_app.command("wikitext-103")(wikitext_103)
prepare_app.command()(openwebtext)
prepare_app.command()(dataset)
