"""The teacher of a run: a causal run of windows, found by its folder or by its name."""

from __future__ import annotations

from pathlib import Path

from jepalm.config import Config, HardwareConfig, from_mapping, preset_names, runs_root
from jepalm.data.prepared import PreparedData
from jepalm.errors import JepalmError, UsageError
from jepalm.generation.loading import load_trained
from jepalm.model.causal import CausalModel
from jepalm.run import CONFIG, MANIFEST, RunFolder, open_run
from jepalm.shell import command


def find_teacher(name: str, runs: Path) -> RunFolder:
    """The run at a path or of a folder's name, else the newest finished one of a run's name.

    A link such as `runs/latest` is followed now: it may point elsewhere later.

    Raises:
        UsageError: there is none.
    """
    for path in (Path(name), runs / Path(name).name):
        if path.exists():
            return RunFolder(path.parent / open_run(path).name)
    found = [folder for folder in runs.glob(f"*-{Path(name).name}*") if _is_finished(folder, name)]
    if found:
        return RunFolder(max(found, key=lambda folder: folder.name))
    hint = "objective.coupling.teacher names a causal run, such as runs/latest"
    if name in preset_names():
        elsewhere = runs if runs != runs_root() else None
        hint = f"train it first: {command('train', preset=name, run_dir=elsewhere)}"
    raise UsageError(f"no finished run {name} in {runs} to be the teacher", hint)


def with_teacher(config: Config, runs: Path) -> Config:
    """A config with the folder of its teacher in place of the name, which may be a newer run's later.

    Args:
        config: with a teacher or without.
        runs: folder of runs, where a teacher is looked for.

    Raises:
        UsageError: there is no such run.
    """
    name = config.objective.coupling.teacher
    if name is None:
        return config
    tree = config.model_dump()
    tree["objective"]["coupling"]["teacher"] = str(find_teacher(name, runs).path)
    return from_mapping(tree)


def load_teacher(
    run: RunFolder, config: Config, prepared: PreparedData, hardware: HardwareConfig
) -> CausalModel:
    """The model that teaches a run.

    Args:
        run: the teacher's.
        config: of the run to train.
        prepared: what it trains on.
        hardware: where it computes.

    Raises:
        UsageError: the run to train has no windows, or the teacher is no causal run of windows, reads text
            differently, or reads less than source and target.
    """
    if prepared.meta.pairing != "windows":
        message = f"objective.coupling.teacher does nothing with {config.data.name}"
        hint = "a teacher writes on where a text ends: prepare it with --pairing windows"
        raise UsageError(f"{message}, whose pairing is {prepared.meta.pairing}", hint)
    trained = load_trained(run, hardware=hardware)
    if not trained.is_causal:
        hint = "train one with --preset shakespeare-ar-small"
        raise UsageError(f"{run.name} cannot teach: it is no causal run", hint)
    if trained.pairing != "windows":
        message = f"{run.name} cannot teach: its data has pairing {trained.pairing}"
        raise UsageError(message, "train a causal run on windows")
    if trained.tokenizer.to_json() != prepared.tokenizer.to_json():
        message = f"{run.name} cannot teach: {config.data.name} has another tokenizer"
        raise UsageError(message, "train the teacher on the same data")
    model = trained.causal.model
    read = config.model.source_len + config.model.target_len - 1
    if read > model.context_len:
        message = f"{run.name} cannot teach: it reads {model.context_len} tokens, and a pair has {read}"
        raise UsageError(message, "set smaller model.source_len and model.target_len")
    return model


def _is_finished(folder: Path, name: str) -> bool:
    """Whether a folder is a finished run of this name."""
    if not (folder / MANIFEST).exists() or not (folder / CONFIG).exists():
        return False
    try:
        manifest = RunFolder(folder).read_manifest()
    except JepalmError:
        return False
    return (manifest.get("name"), manifest.get("status")) == (name, "finished")
