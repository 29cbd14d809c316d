"""A trained model from its run folder: config, tokenizer, weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jepalm.config import Config, HardwareConfig, data_root, read_config
from jepalm.data.prepared import PreparedData, open_prepared
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import JepalmError, UsageError
from jepalm.hardware import Hardware, choose_hardware
from jepalm.objective import CausalObjective, JepalmObjective, Objective, build_objective
from jepalm.run import RunFolder
from jepalm.training.checkpoint import BEST, Checkpoint, find_checkpoint, load_model

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class TrainedModel:
    """A run's model, ready to use."""

    run: RunFolder
    config: Config
    tokenizer: TextTokenizer
    checkpoint: Checkpoint
    objective: Objective
    hardware: Hardware
    pairing: str
    reads_actions: bool = False

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
            UsageError: the data is gone.
            JepalmError: it was changed since.
        """
        prepared = open_prepared(self.config.data.name, data_root(root))
        known = self.run.read_manifest().get("data", {}).get("content_sha256")
        if known != prepared.meta.content_sha256:
            hint = "prepare the same text again, or train again"
            raise JepalmError(f"{prepared.path} was changed since {self.run.name} was trained", hint)
        return prepared


def load_trained(
    run: RunFolder, which: str | None = None, hardware: HardwareConfig | None = None
) -> TrainedModel:
    """Load a run's model from a checkpoint: `last`, `best` or a step.

    When None, the last; of a run that ended early the best, as it ended because the last is none.
    Needs the run folder alone, not the prepared data.
    """
    config = read_config(run.config)
    early = (run.checkpoints / BEST).exists() and run.read_manifest().get("finished_early", False)
    checkpoint = find_checkpoint(run, which or (BEST if early else "last"))
    place = choose_hardware(hardware or HardwareConfig())
    tokenizer = TextTokenizer.load(run.path / TOKENIZER)
    objective = build_objective(config.model, config.objective, tokenizer.vocab_size, place)
    load_model(checkpoint, objective)
    objective.eval()
    data = run.read_manifest().get("data", {})
    pairing, has_action = str(data.get("pairing", "pairs")), bool(data.get("has_action", False))
    causal = config.model.family == "causal"
    reads_actions = has_action if causal else config.model.action.conditioning != "none"
    return TrainedModel(run, config, tokenizer, checkpoint, objective, place, pairing, reads_actions)
