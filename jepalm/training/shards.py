"""Tensors of which each process holds a part, as files of safetensors, by `torch.distributed.checkpoint`.

They are read at any number of processes, each its own part. Nothing in them needs unpickling.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

CONSOLIDATED = "model-00001-of-00001.safetensors"
"""What the library calls the one file of all tensors."""


def write_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write each process's part into a folder; all processes must call it.

    A scalar becomes a vector of one, as shards have none.

    Raises:
        CheckpointException: a process cannot write.
    """
    parts = {name: value if value.ndim else value[None] for name, value in tensors.items()}
    save(parts, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))


def write_consolidated(file: Path, tensors: dict[str, Tensor]) -> None:
    """Write the parts of all processes into one file; all processes must call it.

    Raises:
        CheckpointException: a process cannot write.
    """
    folder = file.with_suffix(".parts")
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True, enable_consolidation=True)
    save(tensors, storage_writer=writer)
    if dist.get_rank() == 0:
        (folder / CONSOLIDATED).rename(file)
        shutil.rmtree(folder)


def sizes(folder: Path) -> dict[str, torch.Size]:
    """Shapes of the whole tensors in a folder, from the headers of its files."""
    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: cast(Any, one).size for name, one in found.items()}


def read_parts(folder: Path, targets: dict[str, Tensor], *, alone: bool = False) -> None:
    """Fill tensors, of which each process may hold a part, from a folder of safetensors.

    Args:
        folder: of shards, or of whole files.
        targets: by name; scalars among them come from whole files.
        alone: this process alone reads.

    Raises:
        CheckpointException: a tensor is missing, or of another shape.
    """
    scalars = [name for name, value in targets.items() if not value.ndim]
    for file in sorted(folder.glob("*.safetensors")) if scalars else ():
        with safe_open(file, framework="pt") as known:
            for name in set(scalars) & set(known.keys()):
                targets[name].copy_(known.get_tensor(name))
    rest = {name: value for name, value in targets.items() if value.ndim}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is but one process
        load(rest, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=alone)


def read_whole(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, whole, by this process alone."""
    targets = {name: torch.zeros(size) for name, size in sizes(folder).items()}
    read_parts(folder, targets, alone=True)
    return targets
