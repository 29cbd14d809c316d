"""A trained model from its run folder, or from one that it was exported to: config, tokenizer, weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from jepalm.config import Config, HardwareConfig, data_root, read_config
from jepalm.data.backbone_tokenizer import load_backbone_tokenizer
from jepalm.data.ngram_expert import read_expert
from jepalm.data.prepared import TOKENIZER, Pairing, PreparedData, open_prepared
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import JepalmError, UsageError
from jepalm.generation.exported import LATENT, WEIGHTS, is_exported, read_record
from jepalm.hardware import Hardware, as_chosen, choose_hardware
from jepalm.objective import CausalObjective, JepalmObjective, Objective, build_objective
from jepalm.run import RunFolder, data_of, open_run
from jepalm.training.checkpoint import BEST, Checkpoint, find_checkpoint, load_model


@dataclass(frozen=True)
class TrainedModel:
    """A run's model, ready to use.

    Attributes:
        run: its folder; of an exported model the folder that it was exported to.
        pairing: of the training data.
        has_action: whether the training data had actions.
    """

    run: RunFolder
    config: Config
    tokenizer: TextTokenizer
    checkpoint: Checkpoint
    objective: Objective
    hardware: Hardware
    pairing: Pairing
    has_action: bool = False

    @property
    def reads_actions(self) -> bool:
        """Whether the model reads an action beside each source."""
        return self.has_action if self.is_causal else self.config.model.action.conditioning != "none"

    @property
    def end(self) -> int | None:
        """The token that closes a text; None of windows, which go on for ever."""
        return None if self.pairing == "windows" else TextTokenizer.END

    @property
    def jepalm(self) -> JepalmObjective:
        """The objective of a run of the family `jepalm`.

        Raises:
            UsageError: the run is a causal one.
        """
        if not isinstance(self.objective, JepalmObjective):
            raise UsageError(f"{self.run.name} writes token by token", "take a run of a JEPALM")
        return self.objective

    @property
    def causal(self) -> CausalObjective:
        """The objective of a run of the family `causal`.

        Raises:
            UsageError: the run is a JEPALM.
        """
        if not isinstance(self.objective, CausalObjective):
            raise UsageError(f"{self.run.name} is no causal run", "train one with --preset shakespeare-ar")
        return self.objective

    @property
    def is_causal(self) -> bool:
        """Whether the run is of the family `causal`."""
        return self.config.model.family == "causal"

    def data(self, root: Path | None = None) -> PreparedData:
        """The data the run was trained on, checked against the hash in its manifest.

        Raises:
            UsageError: the data is gone, or the model was exported.
            JepalmError: it was changed since.
        """
        if is_exported(self.run.path):
            raise UsageError(f"{self.run.name} is an exported model without its data", "name the run instead")
        prepared = open_prepared(self.config.data.name, data_root(root))
        known = data_of(self.run.read_manifest()).get("content_sha256")
        if known != prepared.meta.content_sha256:
            hint = "prepare the same text again, or train again"
            raise JepalmError(f"{prepared.path} was changed since {self.run.name} was trained", hint)
        return prepared


def load_folder(path: Path, which: str | None = None, hardware: HardwareConfig | None = None) -> TrainedModel:
    """Load the model of a run folder from a checkpoint, as `load_trained` does, or an exported one.

    Raises:
        UsageError: the path is neither, or it is an exported one and another checkpoint is asked for.
        JepalmError: it is damaged.
    """
    if not is_exported(path):
        return load_trained(open_run(path), which, hardware)
    if which not in (None, "last"):
        raise UsageError(f"{path} is an exported model and has no checkpoint {which}", "name the run instead")
    return load_exported(path, hardware)


def load_trained(
    run: RunFolder, which: str | None = None, hardware: HardwareConfig | None = None
) -> TrainedModel:
    """Load a run's model from a checkpoint: `last`, `best` or a step.

    When None, the last; of a run that ended early the best, as it ended because the last is none.
    Needs the run folder alone, not the prepared data. On the CPU that trained it, precision and threads are
    those of the training, where nothing else is asked for.
    """
    config, manifest = read_config(run.config), run.read_manifest()
    early = (run.checkpoints / BEST).exists() and manifest.get("finished_early", False)
    checkpoint = find_checkpoint(run, which or (BEST if early else "last"), moments=False)
    place = writing_hardware(hardware or HardwareConfig(), manifest)
    tokenizer = TextTokenizer.load(run.path / TOKENIZER)
    objective = build_objective(config.model, config.objective, tokenizer.vocab_size, place)
    load_model(checkpoint, objective)
    objective.eval()
    data = data_of(manifest)
    if order := config.model.decoder.ngram:
        assert isinstance(objective, JepalmObjective)
        hint = "copy it from where the run was trained, or train again"
        objective.expert = read_expert(run.path, tokenizer, order, data.get("content_sha256"), hint)
    pairing, has_action = _pairing(data.get("pairing")), bool(data.get("has_action", False))
    return TrainedModel(run, config, tokenizer, checkpoint, objective, place, pairing, has_action)


def writing_hardware(asked: HardwareConfig, manifest: Mapping[str, Any]) -> Hardware:
    """Where a model writes: as measured when it was trained here, on one thread while others have the cores.

    Two threads on cores that are not free wait for each other at every operation of a text's many.
    """
    place = choose_hardware(as_chosen(asked, manifest, here=True))
    if place.device.type == "cpu" and place.threads > 1 and asked.threads is None:
        from jepalm.training.tuning import cores_are_free  # with much else that only training needs

        if not cores_are_free():
            torch.set_num_threads(1)
            return replace(place, threads=1)
    return place


def load_exported(folder: Path, hardware: HardwareConfig | None = None) -> TrainedModel:
    """Load what `jepalm export` wrote.

    Raises:
        UsageError: it is no such folder, or a file of it is missing.
        JepalmError: the weights do not fit.
    """
    record = read_record(folder)
    place = writing_hardware(hardware or HardwareConfig(), {})
    config, checkpoint = record.config, Checkpoint(folder, record.step)
    if config.model.backbone is not None:
        model = config.model.model_copy(update={"backbone": str(folder)})
        config = config.model_copy(update={"model": model})
        tokenizer = load_backbone_tokenizer(str(folder)).text
    else:
        tokenizer = TextTokenizer.load(folder / TOKENIZER)
        if not (folder / WEIGHTS).is_file():
            raise UsageError(f"{folder} has no {WEIGHTS}", "export the run again")
    objective = build_objective(config.model, config.objective, tokenizer.vocab_size, place)
    if config.model.backbone is None:
        load_model(checkpoint, objective)
    elif (folder / LATENT).is_file():
        _load_latent(folder / LATENT, objective)
    objective.eval()
    if order := config.model.decoder.ngram:
        assert isinstance(objective, JepalmObjective)
        objective.expert = read_expert(folder, tokenizer, order, None, "export the run again")
    return TrainedModel(
        RunFolder(folder), config, tokenizer, checkpoint, objective, place, record.pairing, record.has_action
    )


def _load_latent(path: Path, objective: Objective) -> None:
    """Load what stands beside a backbone."""
    try:
        latent = load_file(path)
        unknown = objective.load_state_dict(latent, strict=False).unexpected_keys
    except (RuntimeError, SafetensorError):
        unknown = ["weights"]
    if unknown:
        raise JepalmError(f"{path} does not fit its config: {unknown[0]}", "export the run again")


def _pairing(name: Any) -> Pairing:
    return cast(Pairing, name) if name in get_args(Pairing) else "pairs"
