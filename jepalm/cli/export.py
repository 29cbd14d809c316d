"""`jepalm export`: a trained model as a folder that needs neither its run nor its data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jepalm.cli.options import CheckpointOption, RunArgument
from jepalm.cli.torch_import import import_torch


def export(
    run: RunArgument = None,
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write.  [required]", show_default=False)
    ] = None,
    checkpoint: CheckpointOption = None,
    half: Annotated[
        bool, typer.Option("--half", help="Write bfloat16, half the size; float32 if not given.")
    ] = False,
    onnx: Annotated[
        bool,
        typer.Option(
            "--onnx",
            help="Of a JEPALM: write encoder, predictor and decoder for programs without Python, too.",
        ),
    ] = False,
) -> None:
    """Write a model as a folder to keep or to publish: weights, config, tokenizer, a card with its figures.

    A backbone's adapters are merged in; any program that reads Hugging Face folders reads it.

    Example: jepalm export runs/latest --to my-model
    """
    import_torch()
    from jepalm.atomic import check_free, whole_folder
    from jepalm.cli.console import line
    from jepalm.config import HardwareConfig, runs_root
    from jepalm.data.writing import size
    from jepalm.errors import UsageError
    from jepalm.generation.export import write_model
    from jepalm.generation.exported import CARD, public_name
    from jepalm.generation.loading import load_trained
    from jepalm.generation.onnx_export import Checked, check_onnx, write_onnx
    from jepalm.report.read import read_run
    from jepalm.report.render.card import ExportFacts, model_card
    from jepalm.report.summary import analyse
    from jepalm.run import open_run
    from jepalm.shell import command

    if to is None:
        raise UsageError("nowhere to write", "give a folder with --to")
    check_free(to)
    plain = {"attention": "matmul", "packing": False} if onnx else {}
    exact = HardwareConfig.model_validate({"device": "cpu", "precision": "fp32", **plain})
    trained = load_trained(open_run(run or runs_root() / "latest"), checkpoint, exact)
    if onnx:
        check_onnx(trained)
    backbone, checked = trained.config.model.backbone, list[Checked]()
    with whole_folder(to) as folder:
        if onnx:
            checked = write_onnx(trained, folder)
        n_parameters = write_model(trained, folder, half=half)
        facts = ExportFacts(
            name=to.name,
            step=trained.checkpoint.step,
            n_parameters=n_parameters,
            precision="bf16" if half else "fp32",
            tokenizer=trained.tokenizer.name,
            backbone=None if backbone is None else public_name(backbone),
            onnx=[(one.name, one.difference) for one in checked],
        )
        card = model_card(analyse(read_run(trained.run.path)), facts)
        (folder / CARD).write_text(card, encoding="utf-8")
    n_bytes = sum(file.stat().st_size for file in to.iterdir())
    line("model", f"{n_parameters / 1e6:.2f} M parameters, {facts.precision}, of step {facts.step:,}")
    for one in checked:
        line("onnx", f"{one.name}: at most {one.difference:.1e} from torch, over {one.n_texts} texts")
    line("wrote", f"{to}  ({size(n_bytes)})")
    line("next", f"{command('generate', 'TEXT', run=to)}   ·   {to / CARD} says what it is")
