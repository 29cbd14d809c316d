"""`jepalm generate --infill`: a text whose gaps are filled in one pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jepalm.generation.loading import TrainedModel
    from jepalm.generation.one_pass import Passage


def show_filled(
    trained: TrainedModel,
    text: str,
    *,
    samples: int,
    temperature: float,
    seed: int,
    as_json: bool,
    draw: Callable[[TrainedModel, Passage], Path] | None,
) -> None:
    """Fill the gaps of a text and print it, the filled gaps highlighted on a terminal.

    Args:
        trained: a model of hidden spans.
        text: with an underscore for each hidden token.
        samples: texts to write.
        temperature: of the draws; 0 takes the most likely token.
        seed: of the draws.
        as_json: print one JSON object instead.
        draw: makes a picture of the predicted embeddings, where one is wanted.
    """
    import json
    import sys
    import time

    from rich.text import Text

    from jepalm.cli.console import console
    from jepalm.cli.written import show_how
    from jepalm.generation.infill import fill, read_gaps

    gapped = read_gaps(trained, text)
    start = time.perf_counter()
    made, passage = fill(trained, gapped, samples=samples, temperature=temperature, seed=seed)
    trained.hardware.synchronize()
    seconds = time.perf_counter() - start
    picture = draw(trained, passage) if draw is not None else None
    characters = sum(len(part) for one in made for part in one.filled)
    if as_json:
        row = {
            "prompt": text,
            "texts": [one.text for one in made],
            "filled": [one.filled for one in made],
            "passes": 1,
            "seconds": round(seconds, 6),
            "characters": characters,
            "temperature": temperature,
            "seed": seed,
            "run": trained.run.name,
            "step": trained.checkpoint.step,
            "embeddings": str(picture) if picture else None,
        }
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        return
    for one in made:
        shown = Text.assemble(*((part, "bold reverse" if gap else "") for part, gap in one.parts))
        console.print(shown, end="" if one.text.endswith("\n") else "\n", soft_wrap=True)
    show_how(trained, 1, characters, seconds, picture)
