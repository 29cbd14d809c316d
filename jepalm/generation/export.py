"""A trained model as a folder that needs neither its run nor its data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from jepalm.data.ngram_expert import NGRAM
from jepalm.data.prepared import TOKENIZER
from jepalm.generation.exported import CONFIG, KEY, LATENT, WEIGHTS, ExportRecord, published
from jepalm.generation.loading import TrainedModel
from jepalm.model.backbone import Backbone
from jepalm.version import __version__

LATENT_PARTS = ("model.predictor_tokens.", "model.predictor.")
"""What stands beside a backbone for latent prediction."""


def write_model(trained: TrainedModel, folder: Path, *, half: bool = False) -> int:
    """Write weights, config and tokenizer into a folder; those of a backbone for any program of its library.

    Args:
        trained: on a CPU in float32; a backbone is not used after.
        folder: to write into.
        half: write bfloat16 instead of float32.

    Returns:
        parameters written.

    Raises:
        OSError: the disk failed.
    """
    model = trained.causal.model if trained.is_causal else None
    if isinstance(model, Backbone):
        return _write_backbone(trained, model, folder, half)
    weights = trained.objective.state_dict().items()
    save_file({name: stored(tensor, half) for name, tensor in weights}, folder / WEIGHTS)
    trained.tokenizer.save(folder / TOKENIZER)
    if (trained.run.path / NGRAM).is_file():
        shutil.copyfile(trained.run.path / NGRAM, folder / NGRAM)
    names = {"architectures": [type(trained.objective.model).__name__], "model_type": "jepalm"}
    _write_config(folder, names, trained)
    return sum(trained.objective.parameters_by_part().values())


def _write_backbone(trained: TrainedModel, model: Backbone, folder: Path, half: bool) -> int:
    """The library's own files, adapters merged in; predictor tokens in a file of their own."""
    weights = trained.objective.state_dict().items()
    latent = {name: stored(tensor, half) for name, tensor in weights if name.startswith(LATENT_PARTS)}
    lm, library = model.plain(), model.tokenizer.library
    if half:
        lm.to(torch.bfloat16)
    lm.save_pretrained(folder)
    library.save_pretrained(folder)
    if latent:
        save_file(latent, folder / LATENT)
    _write_config(folder, json.loads((folder / CONFIG).read_text(encoding="utf-8")), trained)
    return sum(p.numel() for p in lm.parameters()) + sum(tensor.numel() for tensor in latent.values())


def _write_config(folder: Path, tree: dict[str, Any], trained: TrainedModel) -> None:
    record = ExportRecord(
        version=__version__,
        run=trained.run.name,
        step=trained.checkpoint.step,
        pairing=trained.pairing,
        has_action=trained.has_action,
        config=published(trained.config),
    )
    text = json.dumps({**tree, KEY: record.model_dump()}, indent=2, ensure_ascii=False) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")


def stored(tensor: Tensor, half: bool) -> Tensor:
    """A tensor as it is written."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor.to(torch.bfloat16) if half and tensor.dtype == torch.float32 else tensor
