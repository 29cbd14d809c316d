"""`jepalm infill`: a text whose gaps are filled in one pass."""

from __future__ import annotations

from typing import Annotated

import typer

from jepalm.cli.options import (
    CheckpointOption,
    DeviceOption,
    JsonOption,
    PictureOption,
    PrecisionOption,
    RunOption,
    SamplesOption,
    SeedOption,
)
from jepalm.cli.torch_import import import_torch


def infill(
    text: Annotated[
        str,
        typer.Argument(
            help="Text with gaps, an underscore for each hidden token; - reads standard input.",
            show_default=False,
        ),
    ],
    run: RunOption = None,
    checkpoint: CheckpointOption = None,
    samples: SamplesOption = 1,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="0: the most likely tokens.  [default: 0; 1 for several samples]",
            show_default=False,
        ),
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    show_embeddings: PictureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fill the gaps of a text in one pass, with a model of hidden spans.

    Example: jepalm infill "To be, or ____ to be"
    """
    import time

    from rich.text import Text

    import_torch()
    from jepalm.cli.console import console, print_json
    from jepalm.cli.texts import draw_embeddings, given_text, print_cost
    from jepalm.config import from_mapping, runs_root
    from jepalm.generation.infill import fill, read_gaps
    from jepalm.generation.loading import load_folder
    from jepalm.generation.writers import default_temperature

    hardware = from_mapping({"hardware": {"device": device, "precision": precision}}).hardware
    trained = load_folder(run or runs_root() / "latest", checkpoint, hardware)
    text = given_text(text)
    gapped, drawn = read_gaps(trained, text), default_temperature(trained, temperature, samples)
    start = time.perf_counter()
    made, passage = fill(trained, gapped, samples=samples, temperature=drawn, seed=seed)
    trained.hardware.synchronize()
    seconds = time.perf_counter() - start
    picture = draw_embeddings(trained, passage) if show_embeddings else None
    characters = sum(len(part) for one in made for part in one.filled)
    if as_json:
        print_json(
            {
                "prompt": text,
                "texts": [one.text for one in made],
                "filled": [one.filled for one in made],
                "nfe": 1,
                "seconds": round(seconds, 6),
                "characters": characters,
                "temperature": drawn,
                "seed": seed,
                "run": trained.run.name,
                "step": trained.checkpoint.step,
                "embeddings": str(picture) if picture else None,
            }
        )
        return
    for one in made:
        shown = Text.assemble(*((part, "bold reverse" if gap else "") for part, gap in one.parts))
        console.print(shown, end="" if one.text.endswith("\n") else "\n", soft_wrap=True)
    print_cost(trained, 1, characters, seconds, picture)
