"""`jepalm export`: a trained backbone as a plain Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jepalm.cli.options import CheckpointOption, RunArgument


def export(
    run: RunArgument = None,
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write.  [required]", show_default=False)
    ] = None,
    checkpoint: CheckpointOption = None,
    half: Annotated[
        bool, typer.Option("--half", help="Write bfloat16, half the size; float32 if not given.")
    ] = False,
) -> None:
    """Write a trained backbone, its adapters merged in, for any program that reads Hugging Face folders.

    Example: jepalm export runs/latest --to my-model
    """
    from jepalm.cli.console import line
    from jepalm.config import HardwareConfig, runs_root
    from jepalm.data.writing import size
    from jepalm.errors import UsageError
    from jepalm.generation.export import export_backbone
    from jepalm.generation.loading import load_trained
    from jepalm.run import open_run

    if to is None:
        raise UsageError("nowhere to write", "give a folder with --to")
    exact = HardwareConfig(device="cpu", precision="fp32")
    trained = load_trained(open_run(run or runs_root() / "latest"), checkpoint, exact)
    n_parameters = export_backbone(trained, to, half=half)
    n_bytes = sum(file.stat().st_size for file in to.iterdir())
    kind = "bf16" if half else "fp32"
    line("model", f"{n_parameters / 1e6:.2f} M parameters, {kind}, of step {trained.checkpoint.step:,}")
    line("wrote", f"{to}  ({size(n_bytes)})")
