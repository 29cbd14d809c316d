"""`jepalm prepare shakespeare` and `jepalm prepare text`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jepalm.cli.prepare.options import (
    Alphabet,
    AlphabetOption,
    DataDirOption,
    ForceOption,
    LicenceOption,
    NameOption,
    NormalizeOption,
    Pairing,
    PairingOption,
    SplitOption,
    TokenizerOption,
    asked_for,
    named_after,
    request_of,
)
from jepalm.cli.prepare.output import labelled, progress_shown, show


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
    from jepalm.data.text.preparing import prepare_text
    from jepalm.data.text.shakespeare import LICENCE, find_shakespeare

    request = request_of(pairing, tokenizer, alphabet, split)
    asked = asked_for(name or "shakespeare", request, data_dir, force)
    if not given and asked.present():
        return
    found = find_shakespeare(asked.root, given)
    for refusal in found.refused:
        labelled("skipped", refusal)
    with progress_shown() as watch:
        job = asked.job("shakespeare", found.origin, LICENCE, watch)
        outcome = prepare_text(job, found.text)
    show(outcome)


def text(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="UTF-8 text, read in this order.")],
    name: NameOption = None,
    pairing: PairingOption = Pairing.lines,
    tokenizer: TokenizerOption = "char",
    alphabet: AlphabetOption = Alphabet.fixed,
    split: SplitOption = "90/5/5",
    normalize_newlines: NormalizeOption = False,
    licence: LicenceOption = "not stated",
    data_dir: DataDirOption = None,
    force: ForceOption = False,
) -> None:
    """Your own text; the folder is named after the first file.

    Example: jepalm prepare text novel.txt --tokenizer bpe:4096
    """
    from jepalm.data.prepared import Origin
    from jepalm.data.text.preparing import prepare_text
    from jepalm.data.text.reading import RawText

    request = request_of(pairing, tokenizer, alphabet, split, normalize_newlines=normalize_newlines)
    origin = Origin(source="given text", where=[str(path) for path in files])
    asked = asked_for(name or named_after(files[0]), request, data_dir, force)
    with progress_shown() as watch:
        job = asked.job("text", origin, licence, watch)
        outcome = prepare_text(job, RawText(tuple(files), normalize_newlines=normalize_newlines))
    show(outcome)
