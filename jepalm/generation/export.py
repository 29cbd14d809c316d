"""A trained backbone as a plain folder of Hugging Face, adapters merged in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from jepalm.errors import JepalmError, UsageError
from jepalm.generation.loading import TrainedModel
from jepalm.model.backbone import Backbone


def export_backbone(trained: TrainedModel, folder: Path, *, half: bool = False) -> int:
    """Write a run's backbone and its tokenizer for any program that reads such folders, whole or not at all.

    Args:
        trained: a model that is not used after.
        folder: is made.
        half: write bfloat16 instead of float32.

    Returns:
        parameters written.

    Raises:
        UsageError: the run has no backbone, or the folder is there already.
        JepalmError: the folder cannot be written.
    """
    model = trained.causal.model if trained.is_causal else None
    if not isinstance(model, Backbone):
        message = f"{trained.run.name} has no backbone to export"
        raise UsageError(message, f"its own weights are in {trained.checkpoint.path}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already", "give another folder with --to")
    lm, library = model.plain(), model.tokenizer.library
    if half:
        lm.to(torch.bfloat16)
    temporary = folder.parent / f".{folder.name}-{os.getpid()}.tmp"
    try:
        temporary.mkdir(parents=True)
        lm.save_pretrained(temporary)
        library.save_pretrained(temporary)
        temporary.replace(folder)
    except OSError as error:
        raise JepalmError(
            f"cannot write {folder}: {error.strerror or error}", "give another folder"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sum(p.numel() for p in lm.parameters())
