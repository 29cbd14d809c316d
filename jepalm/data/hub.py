"""Texts of the `datasets` library: a dataset on the hub, or a folder of its files, as a stream.

Nothing is downloaded whole: the library reads file after file, and tells a state from which a later
process reads on. The hub and a folder take the same way.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from jepalm.data.prepared import SPLITS, Origin, SplitName
from jepalm.errors import JepalmError, UsageError, nearest

State = dict[str, Any]
"""Where in a dataset's split to read on, as the library tells it; plain JSON."""

_NETWORK = ("httpx", "httpx2", "httpcore", "httpcore2", "aiohttp")
_LIBRARIES = ("datasets", "huggingface_hub", "pyarrow")


@dataclass(frozen=True)
class Corpus:
    """What must be known of a dataset to make documents of it."""

    dataset: str
    """Name on the hub, or a folder."""
    config: str | None = None
    column: str = "text"
    title: re.Pattern[str] | None = None
    """Where rows are lines: a row that begins a document behind a blank one. Empty: each is a document."""
    licence: str = "not stated"

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
    ),
}


@dataclass(frozen=True)
class Position:
    """Where to read on: in this split, from this state, or from its beginning."""

    split: SplitName
    state: State | None = None


class Document(NamedTuple):
    """A document of a split of the dataset, and where to read on after it; None at the end."""

    split: SplitName
    text: str
    after: Position | None


@dataclass(frozen=True)
class HubText:
    """An opened dataset."""

    corpus: Corpus
    origin: Origin
    identity: str
    """Changes when a file of the dataset does."""
    n_bytes: int
    """Of the text, as the dataset's card tells it; 0 where it does not."""
    parts: dict[SplitName, Any]
    """The library's streams."""

    @property
    def n_files(self) -> int:
        """Files of the training split."""
        return int(self.parts["train"].num_shards)

    def documents(self, since: Position | None) -> Generator[Document]:
        """Yield each document and where to read on after it; nothing from None, the end.

        Raises:
            UsageError: the files cannot be read.
            JepalmError: the network failed.
        """
        while since is not None:
            names = list(self.parts)[list(self.parts).index(since.split) + 1 :]
            following = Position(names[0]) if names else None
            for text, after in self._grouped(self._rows(self.parts[since.split], since.state)):
                yield Document(since.split, text, Position(since.split, after) if after else following)
            since = following

    def rows(self, split: SplitName) -> Generator[dict[str, Any]]:
        """Yield the rows of a split with all their columns.

        Raises:
            UsageError: the files cannot be read.
            JepalmError: the network failed.
        """
        with _for_people(self.corpus.dataset), closing(iter(self.parts[split])) as rows:
            yield from rows

    def beginning(self, file: int) -> Generator[str]:
        """Yield the documents of one file of the training split."""
        part = self.parts["train"].shard(num_shards=self.n_files, index=file)
        for text, _ in self._grouped(self._rows(part, None)):
            yield text

    def _grouped(self, rows: Iterator[tuple[str, State]]) -> Iterator[tuple[str, State | None]]:
        """Join rows to documents."""
        title = self.corpus.title
        pending: list[str] = []
        for text, before in rows:
            if pending and (title is None or (title.fullmatch(text) and not pending[-1].strip())):
                if document := "".join(pending):
                    yield document, before
                pending.clear()
            pending.append(text)
        if document := "".join(pending):
            yield document, None

    def _rows(self, part: Any, state: State | None) -> Iterator[tuple[str, State]]:
        """Yield the text of each row and the state from which this row is read again."""
        if state is not None:
            part.load_state_dict(state)
        column = self.corpus.column
        with _for_people(self.corpus.dataset), closing(iter(part)) as rows:
            before = state or part.state_dict()
            for row in rows:
                yield row[column] or "", before
                before = part.state_dict()


def open_hub(corpus: Corpus, revision: str | None = None) -> HubText:
    """Find a dataset and what it holds; reads none of its text.

    Args:
        corpus: where it is.
        revision: branch, tag or commit on the hub; the newest when empty.

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
        streams = builder.as_streaming_dataset()
        present = sorted(map(str, streams))
        if "train" not in present:
            raise UsageError(f"{corpus.dataset} has no split train", f"there are: {', '.join(present)}")
        parts = {name: streams[name] for name in SPLITS if name in present}
        _check_column(corpus, parts["train"])
        files = {str(name): list(found) for name, found in builder.config.data_files.items()}
        n_bytes = _n_bytes(corpus, builder, files, parts)
    origin = Origin(
        source="dataset in a folder" if local else "dataset on the hub",
        where=[corpus.where],
        revision=None if local else builder.hash,
        own_splits=tuple(parts),
    )
    return HubText(corpus, origin, _identity(files), n_bytes, parts)


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


def _check_column(corpus: Corpus, part: Any) -> None:
    columns = part.column_names
    if columns is None:
        with closing(iter(part)) as rows:
            columns = list(next(rows, {}))
    if corpus.column not in columns:
        hint = nearest(corpus.column, columns) or f"there are: {', '.join(columns)}"
        raise UsageError(f"{corpus.dataset} has no column {corpus.column}", hint)
    kind = (part.features or {}).get(corpus.column)
    if kind is not None and getattr(kind, "dtype", None) not in ("string", "large_string"):
        raise UsageError(
            f"column {corpus.column} of {corpus.dataset} holds no text", "--column names another"
        )


def _identity(files: dict[str, list[str]]) -> str:
    """Hash over the names of the files; a name on the hub holds the commit, one here gets size and time."""
    conditioning: list[Any] = [files]
    for name in (name for found in files.values() for name in found):
        if Path(name).is_file():
            status = Path(name).stat()
            conditioning.append([status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(conditioning, sort_keys=True).encode()).hexdigest()


def _n_bytes(corpus: Corpus, builder: Any, files: dict[str, list[str]], parts: dict[SplitName, Any]) -> int:
    """About how much text there is: as the dataset's card says, else as the files here say; 0 unknown."""
    import pyarrow.parquet as parquet

    if builder.info.splits:
        return sum(builder.info.splits[name].num_bytes or 0 for name in parts)
    total = 0
    for path in (Path(name) for part in parts for name in files[part]):
        if not path.is_file():
            return 0
        if path.suffix != ".parquet":
            total += path.stat().st_size
            continue
        conditioning = parquet.read_metadata(path)
        columns = [conditioning.schema.column(index).path for index in range(conditioning.num_columns)]
        column = columns.index(corpus.column)
        groups = (conditioning.row_group(index) for index in range(conditioning.num_row_groups))
        total += sum(group.column(column).total_uncompressed_size for group in groups)
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
