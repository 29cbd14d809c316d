"""Options that the commands of `jepalm prepare` share, and what they ask for."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from jepalm.data.job import Job, Watch
    from jepalm.data.prepared import Drawn, Origin, Request, Simulated, Task


class Pairing(enum.StrEnum):
    """How a text becomes pairs."""

    lines = "lines"
    windows = "windows"
    spans = "spans"


class Alphabet(enum.StrEnum):
    """Which symbols a `char` tokenizer knows."""

    fixed = "fixed"
    data = "data"


class SplitBy(enum.StrEnum):
    """What decides the split of a pair."""

    order = "order"
    source = "source"


PairingOption = Annotated[
    Pairing,
    typer.Option(
        help="lines: each line predicts the next. windows: what follows, anywhere. spans: gaps inside a text."
    ),
]
TokenizerOption = Annotated[
    str,
    typer.Option(
        metavar="char|byte|bpe:SIZE|word:SIZE|whitespace:SIZE|MODEL",
        help="How text becomes tokens; MODEL: as a Hugging Face model does, given by its folder or name.",
    ),
]
AlphabetOption = Annotated[
    Alphabet, typer.Option(help="For char: printable ASCII, tab and newline, or the symbols that occur.")
]
SplitOption = Annotated[
    str, typer.Option(metavar="A/B/C", help="Percent of the text in train, validation and test.")
]
SplitByOption = Annotated[
    SplitBy,
    typer.Option(
        help="order: the last rows are held out. source: by a hash, so that a source is in one split."
    ),
]
NormalizeOption = Annotated[
    bool, typer.Option("--normalize-newlines", help="Read CR LF, and CR alone, as a newline.")
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


FromOption = Annotated[
    str | None,
    typer.Option("--from", metavar="FOLDER|NAME", help="A downloaded copy, or another dataset on the hub."),
]
ConfigOption = Annotated[
    str | None, typer.Option(metavar="CONFIG", help="Of a dataset, where it has several.")
]
RevisionOption = Annotated[
    str | None, typer.Option(metavar="REVISION", help="Branch, tag or commit on the hub; else the newest.")
]


@dataclass(frozen=True)
class PrepareRequest:
    """What is asked of every command: what to make, and where."""

    root: Path
    name: str
    request: Request
    force: bool

    def present(self, where: list[str] | None = None) -> bool:
        """Whether it is there already and need not be made again; shows it if so.

        Raises:
            UsageError: the name or the request is out of range, or the folder holds something else.
        """
        from jepalm.cli.prepare.output import show_present
        from jepalm.data.job import already_prepared, check_request

        check_request(self.name, self.request)
        found = None if self.force else already_prepared(self.root, self.name, self.request, where=where)
        if found is not None:
            show_present(found)
        return found is not None

    def job(self, corpus: str, origin: Origin, licence: str, watch: Watch) -> Job:
        """The work itself, of this corpus."""
        from jepalm.data.job import Job

        return Job(self.root, self.name, corpus, origin, licence, self.request, self.force, watch)


def asked_for(name: str, request: Request, data_dir: Path | None, force: bool) -> PrepareRequest:
    """What the options say."""
    from jepalm.config import data_root

    return PrepareRequest(data_root(data_dir), name, request, force)


def request_of(
    pairing: str,
    tokenizer: str,
    alphabet: Alphabet,
    split: str,
    task: Task = "text",
    split_by: SplitBy = SplitBy.order,
    drawn: Drawn | None = None,
    simulated: Simulated | None = None,
    **flags: bool,
) -> Request:
    """The request that the options make; flags by the name of their field in it.

    Raises:
        UsageError: `--split` is no three numbers.
    """
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
            "split_by": split_by.value,
            "drawn": drawn,
            "simulated": simulated,
            **flags,
        }
    )


def named_after(path: Path) -> str:
    """A folder name made of a file's."""
    import re

    return re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).strip(".-") or "text"
