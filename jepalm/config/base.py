"""What every section of the config is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen group of settings; unknown keys and non-finite numbers are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


def kept(section: Section, name: str) -> bool:
    """Whether a setting has its default."""
    return bool(getattr(section, name) == type(section).model_fields[name].default)
