"""Writes docs/config.md from the fields in jepalm/config/: `make docs`."""

from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from jepalm.config import Config, Section

PAGE = Path(__file__).parent / "config.md"
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
HEAD = """# Settings

Every key, as `jepalm train section.key=value` or in a YAML file for `--config`. Order of precedence: preset,
file, flags, overrides. `config.yaml` in a run's folder holds the fully resolved tree. Values are read as
YAML; `null` empties a key.

This page is made from the fields in `jepalm/config/` by `make docs`.
"""


def reference() -> str:
    """Every key with its default, range and meaning, as Markdown."""
    sections = Config.model_fields.items()
    parts = [part for name, field in sections for kind in held(field) for part in describe(kind, name)]
    return "\n".join([HEAD, *parts]).rstrip() + "\n"


def describe(section: type[Section], name: str) -> list[str]:
    """Lines of a section and, below them, those of the sections inside it; a list's items are numbered N."""
    rows, inner = [], []
    for key, field in section.model_fields.items():
        where = f"{name}.{key}"
        if isinstance(field.default, Section):
            inner += [part for kind in held(field) for part in describe(kind, where)]
            continue
        inner += [part for kind in held(field) for part in describe(kind, f"{where}.N")]
        meaning = (field.description or "").replace("\n", " ")
        default = "required" if field.is_required() else shown(field.default)
        rows.append(f"| `{where}` | {default} | {allowed(field)} | {meaning} |")
    title = (section.__doc__ or "").splitlines()[0]
    table = ["| key | default | values | meaning |", "|---|---|---|---|", *rows, ""] if rows else []
    return [f"## {name}", "", title, "", *table, *inner]


def held(field: FieldInfo) -> list[type[Section]]:
    """The section that a field holds, or holds a list of; none for a plain value."""
    kinds = (field.annotation, *get_args(field.annotation))
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)]


def shown(value: object) -> str:
    """A default as one would write it."""
    if value is None or value == ():
        return "empty"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def allowed(field: FieldInfo) -> str:
    """Choices or bounds of a field."""
    kinds = (field.annotation, *get_args(field.annotation))
    choices = [choice for kind in kinds for choice in literals(kind)]
    choices += ["true", "false"] if bool in kinds else []
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    bounds = [
        f"{sign} {getattr(bound, name)}"
        for bound in field.metadata
        for name, sign in SIGNS.items()
        if hasattr(bound, name)
    ]
    return ", ".join(bounds)


def literals(kind: object) -> list[str]:
    """The values of a Literal type."""
    return [str(value) for value in get_args(kind)] if get_origin(kind) is Literal else []


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
