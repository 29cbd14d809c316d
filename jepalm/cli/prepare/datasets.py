"""The commands of `jepalm prepare` that take a dataset of the `datasets` library."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jepalm.cli.prepare.options import (
    Alphabet,
    Asked,
    ConfigOption,
    DataDirOption,
    ForceOption,
    FromOption,
    LicenceOption,
    NameOption,
    RevisionOption,
    SplitOption,
    TokenizerOption,
    asked_for,
    named_after,
    request_of,
)
from jepalm.cli.prepare.output import labelled, progress_shown, show

if TYPE_CHECKING:
    from jepalm.data.hub import Corpus

BPE = "bpe:16384"


class StreamPairing(enum.StrEnum):
    """How a stream of documents becomes pairs."""

    windows = "windows"
    spans = "spans"


StreamPairingOption = Annotated[
    StreamPairing,
    typer.Option("--pairing", help="windows: what follows, anywhere. spans: gaps inside a text."),
]


def wikitext_103(
    given: FromOption = None,
    name: NameOption = None,
    pairing: StreamPairingOption = StreamPairing.windows,
    tokenizer: TokenizerOption = BPE,
    revision: RevisionOption = None,
    data_dir: DataDirOption = None,
    force: ForceOption = False,
) -> None:
    """WikiText-103, raw: articles of Wikipedia, in the splits it comes in. Needs jepalm[hub].

    Example: jepalm prepare wikitext-103
    """
    from jepalm.data.hub import CORPORA

    request = request_of(pairing, tokenizer, Alphabet.fixed, "98/1/1")
    asked = asked_for(name or "wikitext-103", request, data_dir, force)
    _prepare(asked, "wikitext-103", _copied(CORPORA["wikitext-103"], given), revision)


def openwebtext(
    given: FromOption = None,
    name: NameOption = None,
    pairing: StreamPairingOption = StreamPairing.windows,
    tokenizer: TokenizerOption = BPE,
    split: SplitOption = "99.9/0.05/0.05",
    revision: RevisionOption = None,
    data_dir: DataDirOption = None,
    force: ForceOption = False,
) -> None:
    """OpenWebText, about 40 GB of web pages, streamed; stopped, it goes on. Needs jepalm[hub].

    Example: jepalm prepare openwebtext
    """
    from jepalm.data.hub import CORPORA

    asked = asked_for(
        name or "openwebtext", request_of(pairing, tokenizer, Alphabet.fixed, split), data_dir, force
    )
    _prepare(asked, "openwebtext", _copied(CORPORA["openwebtext"], given), revision)


def dataset(
    given: Annotated[
        str,
        typer.Argument(metavar="FOLDER|NAME", help="Folder of Parquet, Arrow or JSONL, or name on the hub."),
    ],
    column: Annotated[
        str, typer.Option(metavar="COLUMN", help="Holds the text; a row is a document.")
    ] = "text",
    config: ConfigOption = None,
    name: NameOption = None,
    pairing: StreamPairingOption = StreamPairing.windows,
    tokenizer: TokenizerOption = BPE,
    split: SplitOption = "98/1/1",
    licence: LicenceOption = "not stated",
    revision: RevisionOption = None,
    data_dir: DataDirOption = None,
    force: ForceOption = False,
) -> None:
    """Any dataset with a column of text; a validation or test that it lacks is taken from train.

    Example: jepalm prepare dataset roneneldan/TinyStories
    """
    from jepalm.data.hub import Corpus

    request = request_of(pairing, tokenizer, Alphabet.fixed, split)
    asked = asked_for(name or named_after(Path(given).resolve()), request, data_dir, force)
    _prepare(asked, "dataset", Corpus(given, config, column, licence=licence), revision)


def _copied(corpus: Corpus, given: str | None) -> Corpus:
    from dataclasses import replace

    return replace(corpus, dataset=given) if given else corpus


def _prepare(asked: Asked, kind: str, corpus: Corpus, revision: str | None) -> None:
    from jepalm.data.hub import open_hub
    from jepalm.data.text.documents import prepare_documents

    if asked.present(where=[corpus.where]):
        return
    labelled("opening", corpus.where)
    opened = open_hub(corpus, revision)
    with progress_shown() as watch:
        job = asked.job(kind, opened.origin, corpus.licence, watch)
        outcome = prepare_documents(job, opened)
    show(outcome)
