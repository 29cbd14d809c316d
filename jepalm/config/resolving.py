"""Presets, YAML files and overrides to a Config, and every fault in them as one line.

Order of precedence: preset, file, flags, `section.key=value` overrides. An unknown key, a wrong
type or a value out of range names the key and the nearest valid name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jepalm.config.base import Section
from jepalm.config.tree import DEFAULT_PRESET, Config
from jepalm.encodings import decode
from jepalm.errors import UsageError, nearest
from jepalm.reading import MAX_YAML_BYTES, NotReadable, check_limits, parse_yaml, read_bytes

_SHOWN = 120
"""Characters of a value in an error."""

SectionT = TypeVar("SectionT", bound=Section)


def preset_names() -> list[str]:
    """Names of the presets shipped in the package, sorted."""
    folder = resources.files("jepalm") / "presets"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml"))


class PresetFacts(Section):
    """What `about:` of a preset says; it is no part of the config."""

    purpose: str
    """Who wants it."""
    parameters: int | None = None
    """Of the model on the preset's data; None where they are a pretrained model's."""


def preset_facts(name: str) -> PresetFacts:
    """Return what a preset says about itself.

    Raises:
        UsageError: there is no such preset.
    """
    return validated(PresetFacts, _read_preset(name)["about"], f"preset {name}", "presets")


def load_preset(name: str) -> dict[str, Any]:
    """Return a preset's mapping, with what it starts from (`base: NAME`) already in it.

    Raises:
        UsageError: there is no such preset.
    """
    base, changes = preset_changes(name)
    tree = load_preset(base) if base is not None else {}
    merge(tree, changes)
    return {**tree, "preset": name}


def preset_changes(name: str) -> tuple[str | None, dict[str, Any]]:
    """Return the recipe that a preset starts from, if any, and all that it changes in it.

    What a preset between the two changes belongs to it.

    Raises:
        UsageError: there is no such preset.
    """
    changes = _read_preset(name)
    changes.pop("about")
    base = changes.pop("base", None)
    if base is None:
        return None, changes
    recipe, inherited = preset_changes(base)
    if recipe is None:
        return base, changes
    merge(inherited, changes)
    return recipe, inherited


def _read_preset(name: str) -> dict[str, Any]:
    if name not in preset_names():
        hint = f"{nearest(name, preset_names())} jepalm presets lists all".strip()
        raise UsageError(f"unknown preset {name}", hint)
    text = (resources.files("jepalm") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return _parse(text, f"preset {name}")


def load_file(path: Path, hint: str = "--config takes a YAML file") -> dict[str, Any]:
    """Read a YAML file of settings.

    Args:
        path: the file.
        hint: what to say where it cannot be read.

    Raises:
        UsageError: missing, unreadable, not UTF-8, not YAML, or not a mapping.
    """
    try:
        raw = read_bytes(path, MAX_YAML_BYTES)
    except FileNotFoundError:
        raise UsageError(f"no such file: {path}", hint) from None
    except NotReadable as error:
        raise UsageError(f"{path}: {error}", hint) from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", hint) from None
    return _parse(decode(raw, str(path)), str(path))


def resolve(
    preset: str | None = None,
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    overrides: list[str] | None = None,
) -> Config:
    """Build the config from preset, file, flags and `section.key=value` overrides, in this order.

    A file that names a preset starts from it; without either, the default preset is used.

    Raises:
        UsageError: with one line that names the key, what is wrong and the nearest valid name.
    """
    given = load_file(file) if file is not None else {}
    tree = load_preset(preset or str(given.get("preset") or DEFAULT_PRESET))
    given.pop("preset", None)
    merge(tree, given)
    for key, value in (flags or {}).items():
        assign(tree, key, value)
    named = tree["preset"]
    apply_overrides(tree, overrides or [])
    if tree["preset"] != named:
        raise UsageError(f"preset={tree['preset']} is no setting", "use --preset NAME")
    return from_mapping(tree)


def apply_overrides(tree: dict[str, Any], overrides: list[str]) -> None:
    """Write `section.key=value` overrides into a mapping, values read as YAML.

    Raises:
        UsageError: an override is not of that form, or its value is not YAML.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise UsageError(
                f"cannot read {short_repr(override)}", "settings have the form section.key=value"
            )
        try:
            value = parse_yaml(text)
        except NotReadable as error:
            why = "" if str(error) == "not valid YAML" else f": {error}"
            message = f"cannot read the value of {short_repr(override)}{why}"
            raise UsageError(message, "quote it as YAML would") from None
        assign(tree, key.strip(), value)


def from_mapping(tree: Mapping[str, Any], where: str = "") -> Config:
    """Validate a nested mapping into a Config.

    Args:
        tree: nested settings.
        where: the file they came from, named in the error.

    Raises:
        UsageError: names the first offending key.
    """
    return validated(Config, tree, where)


def validated(model: type[SectionT], tree: Mapping[str, Any], where: str, page: str = "config") -> SectionT:
    """Validate a nested mapping into a section.

    Args:
        model: the section.
        tree: nested settings.
        where: the file they came from, named in the error.
        page: of the docs that lists the keys.

    Raises:
        UsageError: names the first offending key.
    """
    try:
        check_limits(tree)
        return model.model_validate(tree)
    except NotReadable as error:
        raise UsageError(f"{where}: {error}" if where else str(error), f"see docs/{page}.md") from None
    except ValidationError as error:
        raise _for_people(error, model, where, page) from None


def read_config(path: Path) -> Config:
    """Read the resolved config of a run."""
    return from_mapping(load_file(path), str(path))


def dump(config: Config) -> str:
    """Return the fully resolved tree as YAML."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False)


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys whose values differ, with both values."""
    before, after = dict(flatten(old.model_dump())), dict(flatten(new.model_dump()))
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of every leaf."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        tree = parse_yaml(text)
    except NotReadable as error:
        line = f", line {error.line}" if error.line is not None else ""
        raise UsageError(f"{where}{line}: {error}", "see the presets for the form") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UsageError(f"{where}: not a mapping of sections", "see the presets for the form")
    return tree


def merge(tree: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Write nested settings over a mapping."""
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            merge(tree[key], value)
        else:
            tree[key] = value


def assign(tree: dict[str, Any], dotted: str, value: Any) -> None:
    """Write one value into a nested mapping; an item of a list is a section called by its number.

    Raises:
        UsageError: a part of the key is a value, not a section, or there is no such item.
    """
    *sections, key = dotted.split(".")
    node: Any = tree
    for section in sections:
        child = _item(node, section, dotted) if isinstance(node, list) else node.setdefault(section, {})
        if isinstance(child, tuple):
            child = node[section] = list(child)
        if not isinstance(child, dict | list):
            raise UsageError(f"unknown key {dotted}", f"{section} is a value, not a section")
        node = child
    if isinstance(node, list):
        raise UsageError(f"unknown key {dotted}", "name a setting of the item after its number")
    node[key] = value


def _item(items: list[Any], number: str, dotted: str) -> Any:
    if not number.isdecimal() or len(number) > 9 or int(number) >= len(items):
        hint = f"they are numbered 0 to {len(items) - 1}" if items else "the list is empty"
        raise UsageError(f"unknown key {dotted}", hint)
    return items[int(number)]


def _for_people(error: ValidationError, model: type[Section], where: str, page: str) -> UsageError:
    detail = _first(error.errors())
    path = [str(part) for part in detail["loc"]]
    prefix = f"{where}: " if where else ""
    if detail["type"] == "extra_forbidden":
        key = ".".join(path)
        return UsageError(f"{prefix}unknown key {key}", _hint(model, path))
    key = ".".join(
        part
        for part in path
        if not part.startswith(("literal[", "function-", "bool", "constrained", "tuple[", "dict["))
    )
    message = detail["msg"].removeprefix("Value error, ")
    if not key or detail["type"] == "value_error":
        return UsageError(f"{prefix}{message}", "change one of the two")
    message = (message[0].lower() + message[1:]).replace("a valid tuple", "a list")
    return UsageError(f"{prefix}{key}={short_repr(detail['input'])}: {message}", f"see docs/{page}.md")


def short_repr(value: Any) -> str:
    """A value as an error names it: on one line, and not all of a long one."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _hint(model: type[Section], path: list[str]) -> str:
    """What an unknown key was meant to be: nearly so here, its namesake elsewhere, or one alike here."""
    siblings = _siblings(model, path)
    everywhere = (known for known, _ in flatten(model().model_dump()))
    elsewhere = [known for known in everywhere if known.rsplit(".", 1)[-1] == path[-1]]
    close = nearest(path[-1], siblings, alike=0.8 if elsewhere else 0.5)
    if close:
        full = ".".join([*path[:-1], close.removeprefix("did you mean ").removesuffix("?")])
        return f"did you mean {full}?"
    if elsewhere:
        return f"did you mean {min(elsewhere, key=lambda known: known.count('.'))}?"
    return f"keys here: {', '.join(siblings)}"


def _first(errors: list[ErrorDetails]) -> ErrorDetails:
    """The first error; of a field that takes a list or a mapping, and was given no list, the mapping's."""
    first = errors[0]
    if first["type"] != "tuple_type":
        return first
    field = [part for part in first["loc"] if not str(part).startswith("tuple[")]
    return next((e for e in errors[1:] if list(e["loc"][: len(field)]) == field), first)


def _siblings(model: type[BaseModel], path: list[str]) -> list[str]:
    """Keys of the section that a path ends in; names and numbers that people give are no sections."""
    for part in path[:-1]:
        field = model.model_fields.get(part)
        kinds = (field.annotation, *get_args(field.annotation)) if field is not None else ()
        model = next(
            (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), model
        )
    return list(model.model_fields)
