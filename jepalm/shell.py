"""Commands as people type them: quoted, with the folders that make them take the right run and data."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jepalm.config import data_root, resolve, runs_root
from jepalm.errors import JepalmError
from jepalm.run import RunFolder, data_of

_ESCAPED = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def quoted(word: object) -> str:
    """A word of a command, as it is where a shell takes it so, else in quotes."""
    text = str(word)
    if _CONTROL.search(text):
        return f"$'{''.join(_ESCAPED.get(character, character) for character in text)}'"
    if shlex.quote(text) == text:
        return text
    return shlex.quote(text) if re.search(r'["$`\\!]', text) else f'"{text}"'


def command(name: str, *words: str | Path, **options: str | Path | bool | None) -> str:
    """A command of jepalm in one line.

    Args:
        name: of the command, such as `train`.
        words: its arguments; one that begins with a dash stands behind `--`, after the options.
        options: `data_dir` for `--data-dir`; True is a flag, and those that are None are left out.
    """
    given = [
        f"--{option.replace('_', '-')}" + ("" if value is True else f" {quoted(value)}")
        for option, value in options.items()
        if value is not None and value is not False
    ]
    if any(str(word).startswith("-") for word in words):
        return " ".join(["jepalm", name, *given, "--", *map(quoted, words)])
    return " ".join(["jepalm", name, *map(quoted, words), *given])


def training(
    preset: str | None, data: str, *settings: str, run_dir: Path | None = None, data_dir: Path | None = None
) -> str:
    """The command that trains a preset on data, which it names where they are not the preset's own."""
    own = data == resolve(preset).data.name
    return command(
        "train", *settings, preset=preset, data=None if own else data, run_dir=run_dir, data_dir=data_dir
    )


def named_run(run: RunFolder) -> Path | None:
    """The run's path where a command would take another run by itself; else None."""
    latest = runs_root() / "latest"
    return None if latest.resolve() == run.path.resolve() else run.path


def named_data_dir(folder: Path, name: str) -> Path | None:
    """What `--data-dir` must say to find prepared data; None where it is found without.

    Args:
        folder: of the data.
        name: its name, or its path, in a config.
    """
    return None if folder in (data_root() / name, Path(name)) else folder.parent


def data_dir_of(manifest: Mapping[str, Any]) -> Path | None:
    """What `--data-dir` must say to find the data that a run was trained on, after its manifest.

    None where that is found without, or is gone.
    """
    data = data_of(manifest)
    if not all(isinstance(data.get(key), str) for key in ("folder", "name")):
        return None
    folder = Path(data["folder"])
    return named_data_dir(folder, data["name"]) if folder.exists() else None


def resuming(run: RunFolder) -> str:
    """The command that goes on with a run."""
    try:
        data_dir = data_dir_of(run.read_manifest())
    except JepalmError:
        data_dir = None
    return command("train", resume=run.path, data_dir=data_dir)
