"""The commands of `jepalm prepare` that take a dataset of the `datasets` library."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jepalm.cli.prepare_options import (
    Alphabet,
    DataDirOption,
    ForceOption,
    LicenceOption,
    NameOption,
    SplitOption,
    TokenizerOption,
    job_of,
    named_after,
    request_of,
)
from jepalm.cli.prepare_output import labelled, progress_shown, show, show_present

if TYPE_CHECKING:
    from jepalm.data.hub import Corpus

FromOption = Annotated[
    str | None,
    typer.Option("--from", metavar="FOLDER|NAME", help="A downloaded copy, or another dataset on the hub."),
]
RevisionOption = Annotated[
    str | None, typer.Option(metavar="REVISION", help="Branch, tag or commit on the hub; else the newest.")
]
ProcessesOption = Annotated[
    int | None,
    typer.Option(min=1, max=1024, metavar="N", help="Processes that make tokens; one a core if not given."),
]
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
    processes: ProcessesOption = None,
    revision: RevisionOption = None,
    data_dir: DataDirOption = None,
    force: ForceOption = False,
) -> None:
    """WikiText-103, raw: articles of Wikipedia, in the splits it comes in. Needs jepalm[hub].

    Example: jepalm prepare wikitext-103
    """
    from jepalm.data.hub import CORPORA

    corpus = _copied(CORPORA["wikitext-103"], given)
    _prepare("wikitext-103", corpus, name, pairing, tokenizer, None, processes, revision, data_dir, force)


def openwebtext(
    given: FromOption = None,
    name: NameOption = None,
    pairing: StreamPairingOption = StreamPairing.windows,
    tokenizer: TokenizerOption = BPE,
    split: SplitOption = "99.9/0.05/0.05",
    processes: ProcessesOption = None,
    revision: RevisionOption = None,
    data_dir: DataDirOption = None,
    force: ForceOption = False,
) -> None:
    """OpenWebText, about 40 GB of web pages, streamed; stopped, it goes on. Needs jepalm[hub].

    Example: jepalm prepare openwebtext --processes 16
    """
    from jepalm.data.hub import CORPORA

    corpus = _copied(CORPORA["openwebtext"], given)
    _prepare("openwebtext", corpus, name, pairing, tokenizer, split, processes, revision, data_dir, force)


def dataset(
    given: Annotated[
        str,
        typer.Argument(metavar="FOLDER|NAME", help="Folder of Parquet, Arrow or JSONL, or name on the hub."),
    ],
    column: Annotated[
        str, typer.Option(metavar="COLUMN", help="Holds the text; a row is a document.")
    ] = "text",
    config: Annotated[
        str | None, typer.Option(metavar="CONFIG", help="Where the dataset has several.")
    ] = None,
    name: NameOption = None,
    pairing: StreamPairingOption = StreamPairing.windows,
    tokenizer: TokenizerOption = BPE,
    split: SplitOption = "98/1/1",
    licence: LicenceOption = "not stated",
    processes: ProcessesOption = None,
    revision: RevisionOption = None,
    data_dir: DataDirOption = None,
    force: ForceOption = False,
) -> None:
    """Any dataset with a column of text; a validation or test that it lacks is taken from train.

    Example: jepalm prepare dataset roneneldan/TinyStories
    """
    from jepalm.data.hub import Corpus

    corpus = Corpus(given, config, column, licence=licence)
    name = name or named_after(Path(given).resolve())
    _prepare("dataset", corpus, name, pairing, tokenizer, split, processes, revision, data_dir, force)


def _copied(corpus: Corpus, given: str | None) -> Corpus:
    from dataclasses import replace

    return replace(corpus, dataset=given) if given else corpus


def _prepare(
    kind: str,
    corpus: Corpus,
    name: str | None,
    pairing: StreamPairing,
    tokenizer: str,
    split: str | None,
    processes: int | None,
    revision: str | None,
    data_dir: Path | None,
    force: bool,
) -> None:
    from jepalm.config import data_root
    from jepalm.data.hub import open_hub
    from jepalm.data.job import already_prepared, check_request
    from jepalm.data.streaming import prepare_stream

    root, name = data_root(data_dir), name or kind
    request = request_of(pairing, tokenizer, Alphabet.fixed, split or "98/1/1")
    check_request(name, request)
    present = None if force else already_prepared(root, name, request, where=[corpus.where])
    if present is not None:
        show_present(present)
        return
    labelled("opening", corpus.where)
    text = open_hub(corpus, revision)
    with progress_shown() as watch:
        job = job_of(root, name, kind, text.origin, corpus.licence, request, force, watch)
        outcome = prepare_stream(job, text, processes or _cores())
    show(outcome)


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
