"""Settings of the data: which, and how hidden spans are drawn."""

from __future__ import annotations

from pydantic import Field

from jepalm.config.base import Section


class SpansConfig(Section):
    """What is hidden of a text, of data prepared with `--pairing spans`."""

    share: float = Field(0.3, gt=0, lt=1)
    """Share of a text's tokens; at least one is hidden and one left."""
    mean_length: float = Field(6.0, ge=1)
    """Mean tokens of a hidden run; their lengths are close to geometric."""


class DataConfig(Section):
    """Which prepared data to train on."""

    name: str = Field("shakespeare", min_length=1)
    """Name of a folder under the data folder, or a path to one."""
    spans: SpansConfig = SpansConfig()
