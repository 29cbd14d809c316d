"""`jepalm presets`: the shipped recipes, or the settings of one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jepalm.cli.options import JsonOption, RunDirOption

if TYPE_CHECKING:
    from jepalm.config import Config
    from jepalm.run import RunFolder

COLUMNS = ("preset", "size", "data", "time here")


@dataclass(frozen=True)
class PresetEntry:
    """One preset of the list.

    Attributes:
        name: for `--preset`.
        parameters: of its model; None where they are a pretrained model's.
        data: name of its prepared data.
        length: `2,500 steps` or `8 epochs`.
        seconds: how long it takes here, after its newest finished run on this machine; None without one.
        purpose: who wants it.
    """

    name: str
    parameters: int | None
    data: str
    length: str
    seconds: float | None
    purpose: str


def presets(
    name: Annotated[
        str | None, typer.Argument(help="Print every setting of this one as YAML.", show_default=False)
    ] = None,
    run_dir: RunDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the presets: size, data, time here, and who wants it.

    Example: jepalm presets nano
    """
    import json
    from dataclasses import asdict

    from jepalm.cli.console import line, print_json, show_rows
    from jepalm.config import dump, preset_names, resolve, runs_root

    if name is not None:
        config = resolve(name)
        typer.echo(json.dumps(config.model_dump()) if as_json else dump(config), nl=as_json)
        return
    runs = finished_runs(runs_root(run_dir))
    entries = [entry_of(preset, runs) for preset in preset_names()]
    if as_json:
        print_json({"presets": [asdict(entry) for entry in entries]})
        return
    show_rows([_cells(entry) for entry in entries], COLUMNS, [entry.purpose for entry in entries])
    line("", "time here: after a finished run on this machine; else jepalm train --preset NAME --dry-run")


def entry_of(name: str, runs: list[tuple[RunFolder, dict[str, Any]]]) -> PresetEntry:
    """What the list says of a preset.

    Args:
        name: of the preset.
        runs: what `finished_runs` found.
    """
    from jepalm.config import preset_facts, resolve
    from jepalm.numbers import counted

    config, facts = resolve(name), preset_facts(name)
    steps, seconds = _steps(config), None
    for run, manifest in runs:
        if manifest.get("preset") == name and _costs_the_same(run, config):
            pace = manifest["seconds"] / manifest["step"]
            seconds = pace * (steps or config.training.epochs * manifest["steps_per_epoch"])
            break
    length = counted(steps, "step") if steps else counted(config.training.epochs, "epoch")
    return PresetEntry(name, facts.parameters, config.data.name, length, seconds, facts.purpose)


def finished_runs(folder: Path) -> list[tuple[RunFolder, dict[str, Any]]]:
    """The finished runs of this machine in a folder with their manifests, the newest first."""
    import platform

    from jepalm.errors import JepalmError
    from jepalm.run import MANIFEST, RunFolder

    found = []
    for path in sorted(folder.glob(f"*/{MANIFEST}"), reverse=True):
        run = RunFolder(path.parent)
        try:
            manifest = run.read_manifest()
        except JepalmError:
            continue
        here = manifest.get("host") == platform.node() and not run.path.is_symlink()
        if here and manifest.get("status") == "finished" and manifest.get("seconds"):
            found.append((run, manifest))
    return found


def _costs_the_same(run: RunFolder, config: Config) -> bool:
    """Whether a step of a run was about as much work as one of a config."""
    from jepalm.config import read_config
    from jepalm.errors import JepalmError

    try:
        own = read_config(run.config)
    except JepalmError:  # of an older version
        return False
    return own.model == config.model and own.training.batch_size == config.training.batch_size


def _steps(config: Config) -> int | None:
    """Steps of a training; None where its data decides."""
    training = config.training
    if training.steps is not None or training.steps_per_epoch is None:
        return training.steps
    return training.epochs * training.steps_per_epoch


def _cells(entry: PresetEntry) -> tuple[str, ...]:
    from jepalm.numbers import duration

    size = f"{entry.parameters / 1e6:.2f} M" if entry.parameters else "backbone"
    took = f", about {duration(entry.seconds, digits=2)}" if entry.seconds else ""
    return entry.name, size, entry.data, entry.length + took
