"""What the commands of `jepalm prepare` take alike, and what they make of it."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from jepalm.data.job import Job, Watch
    from jepalm.data.prepared import Drawn, Origin, Request, Task


class Pairing(enum.StrEnum):
    """How a text becomes pairs."""

    lines = "lines"
    windows = "windows"
    spans = "spans"


class Alphabet(enum.StrEnum):
    """Which symbols a `char` tokenizer knows."""

    fixed = "fixed"
    data = "data"


PairingOption = Annotated[
    Pairing,
    typer.Option(
        help="lines: each line predicts the next. windows: what follows, anywhere. spans: gaps inside a text."
    ),
]
TokenizerOption = Annotated[
    str,
    typer.Option(
        metavar="char|byte|bpe:SIZE|word:SIZE|MODEL",
        help="How text becomes tokens; MODEL: as a Hugging Face model does, given by its folder or name.",
    ),
]
AlphabetOption = Annotated[
    Alphabet, typer.Option(help="For char: printable ASCII, tab and newline, or the symbols that occur.")
]
SplitOption = Annotated[
    str, typer.Option(metavar="A/B/C", help="Percent of the text in train, validation and test.")
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


def request_of(
    pairing: str,
    tokenizer: str,
    alphabet: Alphabet,
    split: str,
    task: Task = "text",
    drawn: Drawn | None = None,
) -> Request:
    """The request that the options make.

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
            "drawn": drawn,
        }
    )


def job_of(
    root: Path,
    name: str,
    corpus: str,
    origin: Origin,
    licence: str,
    request: Request,
    force: bool,
    watch: Watch,
) -> Job:
    """The job that the options make."""
    from jepalm.data.job import Job

    return Job(root, name, corpus, origin, licence, request, force, watch)


def named_after(path: Path) -> str:
    """A folder name made of a file's."""
    import re

    return re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).strip(".-") or "text"
