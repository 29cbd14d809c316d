"""The config tree: one section a part, YAML in and out, presets, overrides.

Order of precedence: preset, file, flags, `section.key=value` overrides. An unknown key, a wrong
type or a value out of range ends in one line that names the key and the nearest valid name.
Each part of the program receives its own section, never the whole tree.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from jepalm.errors import UsageError, nearest

DEFAULT_PRESET = "shakespeare"


class Section(BaseModel):
    """A frozen group of settings; unknown keys and non-finite numbers are errors."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )


class DataConfig(Section):
    """Which prepared data to train on."""

    name: str = Field("shakespeare", min_length=1)
    """Name of a folder under the data folder, or a path to one."""


class EncoderConfig(Section):
    """The TextEncoder."""

    n_layers: int = Field(4, ge=1, le=128)
    normalisation: Literal["layernorm", "none"] = "layernorm"
    """What makes embeddings of the last layer's output: LayerNorm without affine, or nothing."""


class PredictorConfig(Section):
    """The cross-attention Predictor; depth and width are its own."""

    n_layers: int = Field(4, ge=1, le=128)
    dim: int | None = Field(None, ge=8, le=16384)
    """Width; the model's own when empty."""
    n_heads: int | None = Field(None, ge=1, le=256)
    """Heads; the model's own when empty."""


class DecoderConfig(Section):
    """The TextDecoder."""

    n_layers: int = Field(4, ge=0, le=128)


class ModelConfig(Section):
    """Sizes of the model parts."""

    family: Literal["jepalm"] = "jepalm"
    dim: int = Field(256, ge=8, le=16384)
    """Width of the embeddings."""
    n_heads: int = Field(4, ge=1, le=256)
    ffn_mult: float = Field(3.625, gt=0, le=16)
    """Inner width of the feed-forward layers over `dim`, rounded to a multiple of 16."""
    source_len: int = Field(64, ge=1, le=65536)
    """Most positions of a source; longer ones keep their last ones."""
    target_len: int = Field(64, ge=1, le=65536)
    """Most positions of a target; longer ones keep their first ones."""
    dropout: float = Field(0.0, ge=0, lt=1)
    encoder: EncoderConfig = EncoderConfig()
    predictor: PredictorConfig = PredictorConfig()
    decoder: DecoderConfig = DecoderConfig()

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ModelConfig:
        widths = [("model", self.dim, self.n_heads)]
        predictor = self.predictor
        widths.append(("model.predictor", predictor.dim or self.dim, predictor.n_heads or self.n_heads))
        for where, dim, heads in widths:
            if dim % heads or (dim // heads) % 2:
                raise ValueError(f"{where}.dim {dim} over n_heads {heads} is not an even whole number")
        return self


class ReconstructionConfig(Section):
    """Cross-entropy of the decoder on target embeddings."""

    weight: float = Field(1.0, ge=0)


class EmbeddingConfig(Section):
    """Distance of predicted to target embeddings, mean over positions."""

    weight: float = Field(1.0, ge=0)
    distance: Literal["mse", "smooth_l1", "cosine"] = "mse"
    """Squared or smooth L1 differences, summed over dims; or 1 - cosine, which leaves the length free."""
    smooth_l1_beta: float = Field(1.0, gt=0)
    """Difference at which smooth L1 turns from square to straight."""
    detach_source: bool = True
    """The predictor reads detached source embeddings, so the encoder does not learn from this term."""
    detach_target: bool = True
    """Stop-gradient on the target embeddings."""


class GenerationConfig(Section):
    """Cross-entropy of the decoder on predicted embeddings."""

    weight: float = Field(0.0, ge=0)
    train_decoder: bool = True
    """Whether the decoder learns from this term, or only what made the embeddings."""


class LengthConfig(Section):
    """Length of the target: its squared error in positions, or the cross-entropy over all lengths."""

    kind: Literal["mse", "classification", "none"] = "mse"
    """`classification`: one bin a length from 0 to `target_len`, the term in nats a pair."""
    weight: float = Field(1.0, ge=0)
    detach_source: bool = True
    """The length head reads detached source embeddings."""


class TargetsConfig(Section):
    """The embeddings that the predictor must match."""

    encoder: Literal["shared", "ema"] = "shared"
    """The trained encoder itself, or an exponential moving average of it."""
    ema_start: float = Field(0.996, ge=0, le=1)
    """Momentum of the moving average at the first step; it rises in a straight line to 1."""
    normalisation: Literal["none", "layernorm", "instance"] = "none"
    """On top of the encoder's own: over dims, or over the positions of a text."""


class RegularizerConfig(Section):
    """A term on the trained encoder's embeddings of the target that keeps them from collapsing."""

    kind: Literal["none", "vicreg", "sigreg"] = "none"
    weight: float = Field(1.0, ge=0)
    variance: float = Field(25.0, ge=0)
    """VICReg: weight of the variance term."""
    covariance: float = Field(1.0, ge=0)
    """VICReg: weight of the covariance term."""
    gamma: float = Field(1.0, gt=0)
    """VICReg: standard deviation below which a dimension costs."""
    eps: float = Field(1e-4, gt=0)
    """VICReg: added to each variance."""
    slices: int = Field(256, ge=1)
    """SIGReg: random directions a step."""
    knots: int = Field(17, ge=2, le=1001)
    """SIGReg: points at which characteristic functions are compared."""
    knots_to: float = Field(3.0, gt=0)
    """SIGReg: the last of them; the first is 0."""
    unit_norm: bool = False
    """SIGReg: bring embeddings to norm sqrt(dim) first, for those whose norm means nothing."""


class UncertaintyConfig(Section):
    """Uncertainty weighting: a learned log variance s for each term."""

    clamp: float | None = Field(4.0, gt=0, le=50)
    """Keeps every s within plus and minus this; empty lets the weight of a term near 0 explode."""
    lr_factor: float = Field(10.0, gt=0, le=1000)
    """Learning rate of s over that of the model."""


class RunningMeanConfig(Section):
    """EMA weighting: each term over its running mean."""

    decay: float = Field(0.99, ge=0, lt=1)
    """Share of the running mean that stays each step."""
    floor: float = Field(0.01, gt=0)
    """Smallest mean a term is divided by, so that a term near 0 is left alone."""


class GradNormConfig(Section):
    """GradNorm: weights that make the terms train at like rates."""

    alpha: float = Field(1.5, ge=0, le=10)
    """How strongly slow terms are favoured; 0 makes all gradients equally long."""
    lr: float = Field(0.025, gt=0, le=1)
    """Learning rate of the weights."""
    every: int = Field(10, ge=1)
    """Steps between updates; each costs a forward pass and one backward pass a term."""
    floor: float = Field(1e-4, gt=0, lt=1)
    """Smallest weight before they are scaled to their fixed sum."""


class ObjectiveConfig(Section):
    """The loss terms: what is trained and where its gradient flows."""

    reconstruction: ReconstructionConfig = ReconstructionConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    generation: GenerationConfig = GenerationConfig()
    length: LengthConfig = LengthConfig()
    regularizer: RegularizerConfig = RegularizerConfig()
    targets: TargetsConfig = TargetsConfig()
    weighting: Literal["fixed", "uncertainty", "ema", "gradnorm"] = "fixed"
    """How the terms become one loss: what each one's own `weight` is multiplied by."""
    uncertainty: UncertaintyConfig = UncertaintyConfig()
    ema: RunningMeanConfig = RunningMeanConfig()
    gradnorm: GradNormConfig = GradNormConfig()

    @model_validator(mode="after")
    def _averages_take_no_gradient(self) -> ObjectiveConfig:
        if self.targets.encoder == "ema" and not self.embedding.detach_target:
            raise ValueError("objective.embedding.detach_target=false needs objective.targets.encoder=shared")
        return self


class OptimizerConfig(Section):
    """AdamW and the learning-rate schedule, a pure function of the step."""

    lr: float = Field(1e-3, gt=0, le=10)
    """Peak learning rate."""
    min_lr: float = Field(0.0, ge=0)
    """Learning rate at the last step."""
    warmup_steps: int = Field(100, ge=0)
    """Steps over which the rate rises linearly to `lr`."""
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = Field(0.01, ge=0, le=10)
    """Applied to matrices only."""
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1)
    grad_clip: float | None = Field(None, gt=0)
    """Largest norm of the whole gradient; empty does not clip."""


class TrainingConfig(Section):
    """How long to train, on how much at a time, and what to write down on the way."""

    epochs: int = Field(10, ge=1)
    steps_per_epoch: int | None = Field(None, ge=1)
    """Steps that count as an epoch; one pass over the training pairs when empty."""
    steps: int | None = Field(None, ge=1)
    """Steps in all; overrides `epochs`."""
    batch_size: int = Field(16, ge=1)
    """Pairs an optimizer step, over all devices and accumulation."""
    micro_batch_size: int | None = Field(None, ge=1)
    """Pairs a forward pass on one device; as many as the batch gives when empty."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    log_every: int = Field(25, ge=1)
    """Steps between rows of `metrics.jsonl`."""
    validate_every: int | None = Field(None, ge=1)
    """Steps between validations; a twentieth of the run when empty."""
    validation_batches: int = Field(16, ge=1)
    samples: int = Field(4, ge=0, le=64)
    """Held-out sources whose one-shot text is written down at each validation."""
    checkpoint_every: int | None = Field(None, ge=1)
    """Steps between checkpoints; as validation when empty."""
    keep: int = Field(2, ge=1)
    """Newest checkpoints to keep, beside the best."""


class HardwareConfig(Section):
    """Where and how to compute; changes speed, never what is learned."""

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    threads: int | None = Field(None, ge=1, le=1024)
    """CPU threads; all physical cores when empty."""
    packing: bool | Literal["auto"] = "auto"
    """Compute only the positions that hold text; `auto`: on a CPU."""
    attention: Literal["auto", "sdpa", "matmul"] = "auto"
    """`auto`: plain matrix products for short texts on a CPU, else the fused kernel."""


class Config(Section):
    """The whole tree."""

    preset: str = DEFAULT_PRESET
    """The recipe this started from."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    hardware: HardwareConfig = HardwareConfig()


def preset_names() -> list[str]:
    """Names of the presets shipped in the package, sorted."""
    folder = resources.files("jepalm") / "presets"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_preset(name: str) -> dict[str, Any]:
    """Return a preset's mapping, with what it starts from (`base: NAME`) already in it.

    Raises:
        UsageError: there is no such preset.
    """
    if name not in preset_names():
        hint = nearest(name, preset_names()) or f"presets: {', '.join(preset_names())}"
        raise UsageError(f"unknown preset {name}", hint)
    text = (resources.files("jepalm") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    changes = _parse(text, f"preset {name}")
    base = changes.pop("base", None)
    tree = load_preset(base) if base is not None else {}
    _merge(tree, changes)
    return {**tree, "preset": name}


def load_file(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises:
        UsageError: missing, unreadable, not UTF-8, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"no such file: {path}", "--config takes a YAML file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text", "--config takes a YAML file") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "--config takes a YAML file") from None
    return _parse(text, str(path))


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
    _merge(tree, given)
    for key, value in (flags or {}).items():
        _assign(tree, key, value)
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
            raise UsageError(f"cannot read {override!r}", "settings have the form section.key=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UsageError(f"cannot read the value of {override!r}", "quote it as YAML would") from None
        _assign(tree, key.strip(), value)


def from_mapping(tree: Mapping[str, Any], where: str = "") -> Config:
    """Validate a nested mapping into a Config.

    Args:
        tree: nested settings.
        where: the file they came from, named in the error.

    Raises:
        UsageError: names the first offending key.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise _for_people(error, where) from None


def read_config(path: Path) -> Config:
    """Read the resolved config of a run."""
    return from_mapping(load_file(path), str(path))


def dump(config: Config) -> str:
    """Return the fully resolved tree as YAML."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)


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


def data_root(given: Path | None = None) -> Path:
    """The folder of prepared data: the flag, else `JEPALM_DATA`, else `data`."""
    return given or Path(os.environ.get("JEPALM_DATA") or "data")


def runs_root(given: Path | None = None) -> Path:
    """The folder of runs: the flag, else `JEPALM_RUNS`, else `runs`."""
    return given or Path(os.environ.get("JEPALM_RUNS") or "runs")


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise UsageError(f"{where}{line}: not valid YAML", "see the presets for the form") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UsageError(f"{where}: not a mapping of sections", "see the presets for the form")
    return tree


def _merge(tree: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = value


def _assign(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, key = dotted.split(".")
    node = tree
    for section in sections:
        child = node.setdefault(section, {})
        if not isinstance(child, dict):
            raise UsageError(f"unknown key {dotted}", f"{section} is a value, not a section")
        node = child
    node[key] = value


def _known_keys() -> list[str]:
    return [key for key, _ in flatten(Config().model_dump())]


def _for_people(error: ValidationError, where: str) -> UsageError:
    detail: ErrorDetails = error.errors()[0]
    path = [str(part) for part in detail["loc"]]
    prefix = f"{where}: " if where else ""
    if detail["type"] == "extra_forbidden":
        key = ".".join(path)
        siblings = _siblings(path)
        close = nearest(path[-1], siblings)
        if close:
            full = ".".join([*path[:-1], close.removeprefix("did you mean ").removesuffix("?")])
            return UsageError(f"{prefix}unknown key {key}", f"did you mean {full}?")
        same_leaf = [known for known in _known_keys() if known.rsplit(".", 1)[-1] == path[-1]]
        top = min(same_leaf, key=lambda known: known.count("."), default="")
        hint = f"did you mean {top}?" if top else f"keys here: {', '.join(siblings)}"
        return UsageError(f"{prefix}unknown key {key}", hint)
    key = ".".join(
        part for part in path if not part.startswith(("literal[", "function-", "bool", "constrained"))
    )
    message = detail["msg"].removeprefix("Value error, ")
    if not key or detail["type"] == "value_error":
        return UsageError(f"{prefix}{message}", "change one of the two")
    message = message[0].lower() + message[1:]
    return UsageError(f"{prefix}{key}={detail['input']!r}: {message}", "see docs/config.md")


def _siblings(path: list[str]) -> list[str]:
    node: Any = Config().model_dump()
    for part in path[:-1]:
        node = node[part]
    return list(node)
