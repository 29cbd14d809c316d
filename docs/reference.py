"""Writes docs/config.md and the metrics of docs/evaluation.md from the code: `make docs`."""

import ast
import inspect
import itertools
import re
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from jepalm.config import Config, Section
from jepalm.evaluation.metrics import METRICS, Metric

PAGE = Path(__file__).parent / "config.md"
METRICS_PAGE = Path(__file__).parent / "evaluation.md"
BEGIN, END = "<!-- metrics, made by `make docs` -->\n", "<!-- end of metrics -->\n"
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
    rows, inner, said = [], [], meanings(section)
    for key, field in section.model_fields.items():
        where = f"{name}.{key}"
        if isinstance(field.default, Section):
            inner += [part for kind in held(field) for part in describe(kind, where)]
            continue
        inner += [part for kind in held(field) for part in describe(kind, f"{where}.N")]
        default = "required" if field.is_required() else shown(field.default)
        rows.append(f"| `{where}` | {default} | {allowed(field)} | {said.get(key, '')} |")
    title = (section.__doc__ or "").splitlines()[0]
    table = ["| key | default | values | meaning |", "|---|---|---|---|", *rows, ""] if rows else []
    return [f"## {name}", "", title, "", *table, *inner]


def meanings(section: type[Section]) -> dict[str, str]:
    """The docstring below each field of a section, on one line."""
    found = {}
    for kind in reversed(section.__mro__):
        if issubclass(kind, Section) and kind is not Section:
            (body,) = ast.parse(inspect.getsource(kind)).body
            for field, below in itertools.pairwise(body.body):
                if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                    found[field.target.id] = " ".join(inspect.cleandoc(below.value.value).split("\n"))
    return found


def with_metrics(page: str) -> str:
    """A page with the table of evaluation metrics in its place."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + metrics_table() + END + rest.partition(END)[2]


def metrics_table() -> str:
    """Every evaluation metric with its unit, direction and control; those of several sizes in one line."""
    rows = []
    for _, group in itertools.groupby(METRICS.values(), key=without_size):
        first, *others = group
        name = f"`{first.name}`" + "".join(f", `_{metric.name.rpartition('_')[2]}`" for metric in others)
        better = {"up": "higher", "down": "lower", None: ""}[first.better]
        rows.append(f"| {name} | {first.label} | {first.unit} | {better} | {first.control or ''} |")
    return "\n".join(["| metric | label | unit | better | control |", "|---|---|---|---|---|", *rows, ""])


def without_size(metric: Metric) -> str:
    """A metric's name without the number at its end."""
    return re.sub(r"_\d+$", "_N", metric.name)


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
    METRICS_PAGE.write_text(with_metrics(METRICS_PAGE.read_text(encoding="utf-8")), encoding="utf-8")
