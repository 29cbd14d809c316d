"""What the commands that write text share: reading standard input, and printing texts and their cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jepalm.generation.loading import TrainedModel
    from jepalm.generation.passage import Passage


@dataclass(frozen=True)
class TextRequest:
    """What a command that writes texts was asked for, beside how to write them.

    Attributes:
        samples: texts of each prompt.
        seed: of the draws.
        as_json: whether to print one JSON object.
        picture: whether to draw the predicted embeddings.
        data_dir: folder of prepared data, of which some drafts are counts.
    """

    samples: int = 1
    seed: int = 0
    as_json: bool = False
    picture: bool = False
    data_dir: Path | None = None


def standard_input() -> str:
    """All of the standard input, without a byte-order mark, every line end a newline.

    Raises:
        UsageError: it is not UTF-8, or closed.
    """
    import sys

    from jepalm.encodings import decode
    from jepalm.errors import UsageError

    if sys.stdin is None:
        raise UsageError("standard input is closed", "give a text, or a pipe to read from")
    return decode(sys.stdin.buffer.read(), "standard input")


def given_text(argument: str) -> str:
    """The text that an argument gives; for `-`, the standard input without the newline at its end.

    Raises:
        UsageError: standard input is not UTF-8.
    """
    from jepalm.encodings import plain

    return standard_input().removesuffix("\n") if argument == "-" else plain(argument)


def refuse(flags: dict[str, bool], beside: str, hint: str) -> None:
    """Raise UsageError for a flag that was given and does nothing beside another."""
    from jepalm.errors import UsageError

    for flag, given in flags.items():
        if given:
            raise UsageError(f"{flag} does not go with {beside}", hint)


def print_cost(
    trained: TrainedModel, nfe: int, characters: int, seconds: float, picture: Path | None
) -> None:
    """Print forward passes, characters and time beside the run, and the file of a picture if there is one."""
    from jepalm.numbers import counted, duration

    print_dim(
        f"{counted(nfe, 'forward pass')} · {counted(characters, 'character')} · {duration(seconds, digits=2)}"
        f" · {trained.run.name} at step {trained.checkpoint.step:,}"
    )
    if picture:
        print_dim(f"embeddings {picture}")


def print_dim(text: str) -> None:
    """Print a line about a text beside the text, on the standard error."""
    from jepalm.cli.console import errors

    errors.print(text, style="dim", markup=False)


def print_notes(notes: list[str]) -> None:
    """Print what was left out of a prompt."""
    from jepalm.cli.console import errors

    for note in notes:
        errors.print(f"note: {note}", markup=False)


def print_texts(texts: list[str]) -> None:
    """Print texts, each with a line end."""
    from jepalm.cli.console import console

    for text in texts:
        console.print(text, markup=False, end="" if text.endswith("\n") else "\n")


def draw_embeddings(trained: TrainedModel, passage: Passage) -> Path:
    """Draw the predicted embeddings of the first passage into the run's report folder; return the file."""
    from jepalm.report.plots.heatmap import embedding_heatmap

    row, each = passage.rows()[0], passage.tokens_per_embedding
    labels = [trained.tokenizer.decode(row[at : at + each]) for at in range(0, len(row), each)]
    path: Path = trained.run.report / "embeddings.png"
    path.parent.mkdir(exist_ok=True)
    values = passage.embeddings[0, : len(labels)].float().cpu().numpy()
    title = f"Predicted embeddings, {trained.run.name} at step {trained.checkpoint.step:,}"
    embedding_heatmap(values, labels, path, title)
    return path
