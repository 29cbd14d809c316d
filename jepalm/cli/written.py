"""How a text was written, in one line under it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jepalm.generation.loading import TrainedModel


def show_how(
    trained: TrainedModel, passes: int, characters: int, seconds: float, picture: Path | None
) -> None:
    """Print passes, characters and time beside the run, then where a picture of the embeddings lies."""
    from jepalm.cli.console import errors

    errors.print(
        f"{passes} pass{'es' if passes > 1 else ''} · {characters} characters · {1000 * seconds:.0f} ms"
        f" · {trained.run.name} at step {trained.checkpoint.step:,}",
        style="dim",
        markup=False,
    )
    if picture:
        errors.print(f"embeddings {picture}", style="dim", markup=False)
