"""`jepalm prepare dataset`: documents of a dataset of the `datasets` library."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from jepalm.cli.prepare.options import (
    Alphabet,
    ConfigOption,
    DataDirOption,
    ForceOption,
    FromOption,
    NameOption,
    NormalizeOption,
    RevisionOption,
    TokenizerOption,
    asked_for,
    named_after,
    request_of,
)
from jepalm.cli.prepare.output import labelled, progress_shown, show

KNOWN = ("wikitext-103", "openwebtext")
"""Datasets whose name is a command too: `prepare NAME` is `prepare dataset NAME`."""


class StreamPairing(enum.StrEnum):
    """How a stream of documents becomes pairs."""

    windows = "windows"
    spans = "spans"


class WithKnownDatasets(TyperGroup):
    """Takes the name of a known dataset for a command."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first argument names."""
        return super().resolve_command(ctx, ["dataset", *args] if args[0] in KNOWN else args)


def dataset(
    given: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|NAME",
            help="Folder of Parquet, Arrow or JSONL, name on the hub, wikitext-103 or openwebtext.",
        ),
    ],
    copy: FromOption = None,
    column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Holds the text; a row is a document.  [default: text]"),
    ] = None,
    config: ConfigOption = None,
    name: NameOption = None,
    pairing: Annotated[
        StreamPairing, typer.Option(help="windows: what follows, anywhere. spans: gaps inside a text.")
    ] = StreamPairing.windows,
    tokenizer: TokenizerOption = "bpe:16384",
    split: Annotated[
        str | None,
        typer.Option(
            metavar="A/B/C",
            help="Percent in train, validation and test, of those that it lacks."
            "  [default: 98/1/1; openwebtext: 99.9/0.05/0.05]",
        ),
    ] = None,
    normalize_newlines: NormalizeOption = False,
    licence: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Licence of the text, written down with it.")
    ] = None,
    revision: RevisionOption = None,
    data_dir: DataDirOption = None,
    force: ForceOption = False,
) -> None:
    """Any dataset with a column of text, streamed; stopped, it goes on. Needs jepalm[hub].

    A validation or test that it lacks is taken from train.

    Example: jepalm prepare dataset roneneldan/TinyStories

    WikiText-103 (articles) and OpenWebText (40 GB of web pages) are known: jepalm prepare openwebtext
    """
    from dataclasses import replace

    from jepalm.data.hub import CORPORA, Corpus, open_hub
    from jepalm.data.text.documents import prepare_documents

    changed: dict[str, Any] = {"dataset": copy, "column": column, "config": config, "licence": licence}
    known = CORPORA.get(given, Corpus(given))
    given_ones = {key: value for key, value in changed.items() if value is not None}
    corpus = replace(known, normalize_newlines=normalize_newlines, **given_ones)
    request = request_of(
        pairing, tokenizer, Alphabet.fixed, split or corpus.split, normalize_newlines=normalize_newlines
    )
    name = name or (given if given in KNOWN else named_after(Path(given).resolve()))
    asked = asked_for(name, request, data_dir, force)
    if asked.present(where=[corpus.where]):
        return
    labelled("opening", corpus.where)
    opened = open_hub(corpus, revision)
    with progress_shown() as watch:
        job = asked.job(given if given in KNOWN else "dataset", opened.origin, corpus.licence, watch)
        outcome = prepare_documents(job, opened)
    show(outcome)
