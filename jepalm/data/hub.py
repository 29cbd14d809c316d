"""Datasets of the `datasets` library: on the hub, or a folder of files, opened as streams of rows.

Nothing is downloaded whole: the library reads file after file. The hub and a folder take the same way.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from jepalm.data.pairs.chats import CHAT_COLUMNS
from jepalm.data.prepared import SPLITS, Origin, SplitName
from jepalm.encodings import without_marks
from jepalm.errors import JepalmError, UsageError, nearest

_NETWORK = ("httpx", "httpx2", "httpcore", "httpcore2", "aiohttp")
_AS_PAIRS = "{} holds pairs: jepalm prepare pairs --from {}"
_LIBRARIES = ("datasets", "huggingface_hub", "pyarrow")


@dataclass(frozen=True)
class Corpus:
    """What must be known of a dataset to read it."""

    dataset: str
    """Name on the hub, or a folder."""
    config: str | None = None
    column: str = "text"
    title: re.Pattern[str] | None = None
    """Where rows are lines: a row that begins a document behind a blank one. Empty: each is a document."""
    licence: str = "not stated"
    split: str = "98/1/1"
    """Percent in train, validation and test, of those that the dataset lacks."""
    normalize_newlines: bool = False
    """Read CR LF, and CR alone, as a newline."""

    def text_of(self, row: Mapping[str, Any]) -> str:
        """The text of a row without byte-order marks; empty where it has none."""
        text = without_marks(row[self.column] or "")
        return text.replace("\r\n", "\n").replace("\r", "\n") if self.normalize_newlines else text

    @property
    def where(self) -> str:
        """In words."""
        return f"{self.dataset}, {f'config {self.config}, ' if self.config else ''}column {self.column}"


CORPORA = {
    "wikitext-103": Corpus(
        "Salesforce/wikitext",
        "wikitext-103-raw-v1",
        title=re.compile(r" = (?!= ).*(?<! =) = \n"),
        licence="CC BY-SA 3.0 and GFDL",
    ),
    "openwebtext": Corpus(
        "Skylion007/openwebtext",
        licence="CC0 1.0 for the collection; the text is its authors'",
        split="99.9/0.05/0.05",
    ),
}


@dataclass(frozen=True)
class OpenDataset:
    """An opened dataset."""

    corpus: Corpus
    origin: Origin
    identity: str
    """Changes when a file of the dataset does."""
    n_bytes: int
    """Of the text, as the dataset's card says; 0 where it does not."""
    streams: dict[SplitName, Any]
    """An `IterableDataset` of each split, train first."""

    @property
    def name(self) -> str:
        """Name on the hub, or the folder."""
        return self.corpus.dataset

    def rows(self, split: SplitName, file: int | None = None) -> Generator[dict[str, Any]]:
        """Yield the rows of a split, or of one of its files.

        Raises:
            UsageError: the files cannot be read.
            JepalmError: the network failed.
        """
        stream = self.streams[split]
        if file is not None:
            stream = stream.shard(num_shards=stream.num_shards, index=file)
        with _for_people(self.name), closing(iter(stream)) as rows:
            yield from rows


def open_hub(corpus: Corpus, revision: str | None = None, pairs: Sequence[str] = ()) -> OpenDataset:
    """Find a dataset and what it holds; reads none of its text.

    Args:
        corpus: where it is.
        revision: branch, tag or commit on the hub; the newest when empty.
        pairs: columns of which rows of pairs have one, in place of a column of text.

    Raises:
        UsageError: no such dataset, or no such config or column in it.
        JepalmError: no network, or the library is missing.
    """
    datasets = _library()
    path = Path(corpus.dataset)
    if path.is_file():
        raise UsageError(f"{path} is a file", "give the folder it lies in")
    local = path.is_dir()
    with _for_people(corpus.dataset):
        config, name = corpus.config, str(path.resolve()) if local else corpus.dataset
        if local and datasets.get_dataset_config_names(name) == ["default"]:
            config = None  # a folder of plain files has no other
        builder = datasets.load_dataset_builder(name, config, revision=revision)
        found = builder.as_streaming_dataset()
        present = sorted(map(str, found))
        if "train" not in present:
            raise UsageError(f"{corpus.dataset} has no split train", f"there are: {', '.join(present)}")
        streams = {name: found[name] for name in SPLITS if name in present}
        corpus = replace(corpus, column=_column_of(corpus, streams["train"], pairs))
        files = {str(name): list(paths) for name, paths in builder.config.data_files.items()}
        n_bytes = _n_bytes(corpus, builder, [name for split in streams for name in files[split]])
    origin = Origin(
        source="dataset in a folder" if local else "dataset on the hub",
        where=[corpus.where],
        revision=None if local else builder.hash,
        own_splits=tuple(streams),
    )
    return OpenDataset(corpus, origin, _identity(files), n_bytes, streams)


def _library() -> ModuleType:
    try:
        import datasets
        import huggingface_hub
    except ImportError:
        raise JepalmError("the library datasets is not installed", "pip install 'jepalm[hub]'") from None
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)  # what goes wrong is said in one line
    huggingface_hub.logging.set_verbosity(logging.CRITICAL)
    return datasets


def _column_of(corpus: Corpus, stream: Any, pairs: Sequence[str]) -> str:
    """The column of text, or the first of those that rows of pairs have."""
    columns = stream.column_names
    if columns is None:
        with closing(iter(stream)) as rows:
            columns = list(next(rows, {}))
    there = f"there are: {', '.join(columns)}"
    if pairs:
        found = next((name for name in pairs if name in columns), None)
        if found is None:
            raise UsageError(f"{corpus.dataset} has none of the columns {', '.join(pairs)}", there)
        return found
    if corpus.column not in columns:
        chat = next((name for name in CHAT_COLUMNS if name in columns), None)
        hint = _AS_PAIRS.format(chat, corpus.dataset) if chat else nearest(corpus.column, columns) or there
        raise UsageError(f"{corpus.dataset} has no column {corpus.column}", hint)
    kind = (stream.features or {}).get(corpus.column)
    if kind is not None and getattr(kind, "dtype", None) not in ("string", "large_string"):
        chats = corpus.column in CHAT_COLUMNS
        hint = _AS_PAIRS.format(corpus.column, corpus.dataset) if chats else "--column names another"
        raise UsageError(f"column {corpus.column} of {corpus.dataset} holds no text", hint)
    return corpus.column


def _identity(files: dict[str, list[str]]) -> str:
    """Hash over the names of the files; a name on the hub holds the commit, one here gets size and time."""
    facts: list[Any] = [files]
    for path in (Path(name) for names in files.values() for name in names):
        if path.is_file():
            facts.append([path.stat().st_size, path.stat().st_mtime_ns])
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _n_bytes(corpus: Corpus, builder: Any, files: list[str]) -> int:
    """About how much text there is: as the dataset's card says, else as the files here say; 0 unknown."""
    import pyarrow.parquet as parquet

    if builder.info.splits:
        return sum(builder.info.splits[name].num_bytes or 0 for name in SPLITS if name in builder.info.splits)
    total = 0
    for path in map(Path, files):
        if not path.is_file():
            return 0
        if path.suffix != ".parquet":
            total += path.stat().st_size
            continue
        facts = parquet.read_metadata(path)
        for group in map(facts.row_group, range(facts.num_row_groups)):
            leaves = map(group.column, range(group.num_columns))
            total += sum(
                leaf.total_uncompressed_size
                for leaf in leaves
                if leaf.path_in_schema.split(".")[0] == corpus.column
            )
    return total


@contextmanager
def _for_people(name: str) -> Iterator[None]:
    """Say in one line what the library and those below it say in many ways."""
    try:
        yield
    except JepalmError:
        raise
    except Exception as error:
        room, said = type(error).__module__.split(".")[0], str(error).strip().split("\n")[0]
        if isinstance(error, (ConnectionError, TimeoutError)) or room in _NETWORK:
            raise JepalmError(
                f"cannot reach the hub for {name}: {said}",
                "check the network, or give the folder of a downloaded copy",
            ) from None
        if isinstance(error, RuntimeError) and "scripts are no longer supported" in said:
            raise UsageError(
                f"{name} is made by a script, which datasets no longer runs",
                "--revision refs/convert/parquet may hold its files",
            ) from None
        if isinstance(error, (OSError, ValueError)) or room in _LIBRARIES:
            raise UsageError(
                f"cannot read dataset {name}: {said}", "check its name, config and files"
            ) from None
        raise
