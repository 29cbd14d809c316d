"""From rows to a model: pairs prepared, a model trained."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from jepalm.api.model import Model, load
from jepalm.config import (
    DEFAULT_PRESET,
    Config,
    assign,
    data_root,
    from_mapping,
    load_file,
    load_preset,
    merge,
    runs_root,
)
from jepalm.data.job import Job
from jepalm.data.pairs.preparing import prepare_pairs as _prepare
from jepalm.data.pairs.rows import PairRows, Row, rows_by_split
from jepalm.data.pairs.tasks import format_of
from jepalm.data.prepared import Origin, PreparedData, Request, Task
from jepalm.errors import UsageError
from jepalm.session import new_session


def train(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Config = DEFAULT_PRESET,
    *,
    data: str | os.PathLike[str] | PreparedData | None = None,
    settings: Mapping[str, Any] | None = None,
    name: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    show: bool = False,
) -> Model:
    """Train a model as `jepalm train` does, and return it.

    Args:
        recipe: a preset's name, a YAML file, nested settings as such a file holds, or a whole config.
        data: prepared data: a name, a folder, or what `prepare_pairs` gave; the recipe's when None.
        settings: changes by dotted key, such as `{"training.steps": 100, "model.dim": 128}`.
        name: of the run; the preset's when None.
        data_dir: folder of prepared data; as for the command when None.
        run_dir: folder of runs; as for the command when None.
        show: whether progress is printed.

    Raises:
        UsageError: a setting, the data or the device is not to be had.
        JepalmError: the disk failed, or the loss is not finite and stays so.
        Interrupted: stopped by a signal after everything was saved; `jepalm train --resume` goes on.
    """
    tree = _recipe(recipe)
    for key, value in (settings or {}).items():
        assign(tree, key, value)
    if data is not None:
        assign(tree, "data.name", str(data.path if isinstance(data, PreparedData) else os.fspath(data)))
    config, runs = from_mapping(tree), runs_root(_path(run_dir))
    with new_session(config, data_root(_path(data_dir)), runs) as session:
        cost = session.cost()
        run = session.open_folder(runs, name, cost)
        session.train(run, Console() if show else None, cost)
    hardware = config.hardware
    return load(run.path, device=hardware.device, precision=hardware.precision)


def prepare_pairs(
    rows: Iterable[Row],
    name: str,
    *,
    validation: Iterable[Row] | None = None,
    test: Iterable[Row] | None = None,
    tokenizer: str = "char",
    alphabet: str = "fixed",
    split: tuple[float, float, float] = (90.0, 5.0, 5.0),
    task: Task = "text",
    dedup: bool = False,
    licence: str = "not stated",
    data_dir: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> PreparedData:
    """Prepare pairs for training, as `jepalm prepare pairs` does with a file of them.

    The same rows under the same name are prepared once.

    Args:
        rows: (source, target) or (source, target, action), or mappings as in a file: `{"source", "target",
            "action"?}`, chats, instructions.
        name: of the folder under `data_dir`.
        validation: all of validation, instead of a share of the rows.
        test: all of test, instead of a share of the rows.
        tokenizer: `char`, `byte`, `bpe:SIZE`, `word:SIZE`, or a Hugging Face model.
        alphabet: of `char`: `fixed`, printable ASCII; or `data`, the characters that occur.
        split: percent of the rows in train, validation and test.
        task: how an answer is scored.
        dedup: keep equal pairs in one split.
        licence: of the rows, in words.
        data_dir: folder of prepared data; as for the command when None.
        force: replace what is there under this name.

    Returns:
        the data, whose `path` is its folder.

    Raises:
        UsageError: a row is no pair, there are too few, an option is out of range, or the name is taken.
        JepalmError: too little room on the disk.
    """
    asked = {"tokenizer": tokenizer, "alphabet": alphabet, "split": split, "task": task, "dedup": dedup}
    try:
        request = Request.model_validate({"pairing": "pairs", **asked})
    except ValidationError as error:
        fault = error.errors()[0]
        raise UsageError(f"{fault['loc'][0]}={fault['input']}: {fault['msg']}", "see docs/data.md") from None
    origin = Origin(source="given pairs", where=["rows of a program"])
    job = Job(data_root(_path(data_dir)), name, "pairs", origin, licence, request, force)
    source = PairRows(rows_by_split(rows, validation, test), format_of(task).pairs)
    return _prepare(job, source).data


def _recipe(recipe: str | os.PathLike[str] | Mapping[str, Any] | Config) -> dict[str, Any]:
    """The nested settings of a recipe, on top of the preset that it names."""
    if isinstance(recipe, Config):
        return recipe.model_dump()
    if isinstance(recipe, str) and not recipe.endswith((".yaml", ".yml")):
        return load_preset(recipe)
    if isinstance(recipe, Mapping):
        given = deepcopy(dict(recipe))  # settings are put into what it holds
    else:
        given = load_file(Path(recipe), "give a YAML file")
    tree = load_preset(str(given.pop("preset", None) or DEFAULT_PRESET))
    merge(tree, given)
    return tree


def _path(given: str | os.PathLike[str] | None) -> Path | None:
    return None if given is None else Path(given)
