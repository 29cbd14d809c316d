"""Options that several commands have, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[
    Path | None, typer.Argument(help="Run folder.  [default: runs/latest]", show_default=False)
]
RunOption = Annotated[
    Path | None, typer.Option(help="Run folder.  [default: runs/latest]", show_default=False)
]
CheckpointOption = Annotated[
    str | None,
    typer.Option(
        help="last, best, or a step.  [default: last; best of a run that ended early]", show_default=False
    ),
]
BeamsOption = Annotated[
    int,
    typer.Option(
        min=1, help="Light decoders of texts that end: keep this many texts, and take the likeliest."
    ),
]
SamplesOption = Annotated[int, typer.Option(min=1, help="Texts to write.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the draws.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, mps.")]
PrecisionOption = Annotated[str, typer.Option(help="auto, fp32, bf16.")]
PictureOption = Annotated[
    bool,
    typer.Option(
        "--show-embeddings", help="Write a heat map of the predicted embeddings into the run's report folder."
    ),
]
DataDirOption = Annotated[
    Path | None, typer.Option(help="Folder of prepared data.  [default: data]", show_default=False)
]
RunDirOption = Annotated[
    Path | None, typer.Option(help="Folder of runs.  [default: runs]", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
