"""The folder of an exported model: what `config.json` says of it, under the key `jepalm`.

FOLDER/model.safetensors    weights
       config.json          of a backbone the library's own file, with one more key
       tokenizer.json       file of the `tokenizers` library
       ngram.safetensors    of a decoder with an n-gram expert: its counts
       README.md            model card
       latent.safetensors   of a backbone with latent prediction: what its library does not know
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from jepalm.config import Config, LatentPredictionConfig, LoraConfig, Section, validated
from jepalm.data.prepared import Pairing
from jepalm.errors import UsageError
from jepalm.reading import read_json

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
LATENT = "latent.safetensors"
KEY = "jepalm"
FORMAT = 1


class ExportRecord(Section):
    """What an exported folder says of its model."""

    format: int = FORMAT
    version: str = ""
    """Of the package that wrote it."""
    run: str = ""
    step: int = Field(0, ge=0)
    pairing: Pairing = "pairs"
    has_action: bool = False
    """Whether the training data had actions."""
    config: Config = Config()


def is_exported(path: Path) -> bool:
    """Whether a path is a folder that an export wrote."""
    try:
        tree = read_json(path / CONFIG)
    except (OSError, ValueError):
        return False
    return isinstance(tree, dict) and KEY in tree


def read_record(folder: Path) -> ExportRecord:
    """Read what an exported folder says of its model.

    Raises:
        UsageError: it is none, or of another format.
    """
    path = folder / CONFIG
    try:
        tree = read_json(path)[KEY]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{folder} is no exported model", "jepalm export makes one") from None
    found = tree.get("format") if isinstance(tree, dict) else None
    if found != FORMAT:
        raise UsageError(f"{path} has format {found}, this jepalm reads {FORMAT}", "export it again")
    return validated(ExportRecord, tree, str(path))


def published(config: Config) -> Config:
    """A run's config without what is of its machine alone: names in place of paths.

    A backbone's adapters are merged when it is exported; its average, of use in training only, stays behind.
    """
    tree: dict[str, Any] = config.model_dump()
    tree["data"]["name"] = Path(config.data.name).name
    teacher, backbone = config.objective.coupling.teacher, config.model.backbone
    if teacher is not None:
        tree["objective"]["coupling"]["teacher"] = Path(teacher).name
    if backbone is not None:
        usual = LatentPredictionConfig()
        tree["objective"]["latent"] |= {"target": usual.target, "ema_start": usual.ema_start}
        tree["model"]["lora"] = LoraConfig().model_dump()
        tree["model"]["backbone"] = public_name(backbone)
    return validated(Config, tree, "config.yaml")


def public_name(backbone: str) -> str:
    """A backbone's name on the hub, or the last part of its path."""
    return Path(backbone).name if Path(backbone).exists() or backbone.count("/") != 1 else backbone
