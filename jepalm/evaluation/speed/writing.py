"""How fast a run writes beside a baseline, and in how many forward passes; timed in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from jepalm.data.batches import Batches
from jepalm.data.prepared import PreparedData
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import UsageError
from jepalm.evaluation.speed.equal_size import build_untrained, counterpart, depth_of
from jepalm.evaluation.speed.numpy_causal import NumpyCausalLM, NumpyCausalWriter
from jepalm.evaluation.speed.parts import parts_of
from jepalm.evaluation.speed.timing import Clock, TimingQuartiles, in_turns, ratio
from jepalm.generation.loading import TrainedModel
from jepalm.generation.prompts import longest_source
from jepalm.generation.roll import PassageWriter
from jepalm.generation.sampling import GREEDY, Sampling
from jepalm.generation.token_by_token import CausalWriter
from jepalm.generation.writer import Prompt, Writer
from jepalm.generation.writers import left_to_right
from jepalm.model.causal import CausalLM
from jepalm.objective import Objective

IN_NUMPY = "causal, NumPy"
"""The causal model token by token in NumPy (`NumpyCausalWriter`)."""
CHARACTERS = 64
"""Written after each prompt by `measure_writing`."""
BATCHES = (1, 64)
PROMPTS = 64


@dataclass(frozen=True)
class RealText:
    """Held-out text that the models read before they write.

    Attributes:
        prompts: sources, evenly spaced over the split.
        targets: what really follows them, in one piece.
    """

    prompts: list[str]
    targets: str

    def characters_per_token(self, tokenizer: TextTokenizer) -> float:
        """Characters of the targets over their tokens."""
        return len(self.targets) / len(tokenizer.encode(self.targets))


def real_text(prepared: PreparedData, trained: TrainedModel) -> RealText:
    """Sources and targets of the validation split.

    Raises:
        UsageError: it is shorter than one pair.
    """
    sizes, decode = trained.config.model, trained.tokenizer.decode
    batches = Batches(
        prepared.split("validation"),
        batch_size=1,
        source_len=sizes.source_len,
        target_len=sizes.target_len,
        seed=0,
        device="cpu",
    ).fixed(PROMPTS)
    prompts = [decode(batch.source.ids[0].tolist()) or " " for batch in batches]
    return RealText(prompts, "".join(decode(batch.target.ids[0].tolist()) for batch in batches) or " ")


@dataclass(frozen=True)
class ModelDescription:
    """Who writes.

    Attributes:
        name: of the run, or `untrained`.
        family: `jepalm` or `causal`.
        parameters: of the model.
        layers: for people.
        tokens: written after each prompt.
        characters_per_token: of real text under its tokenizer.
    """

    name: str
    family: str
    parameters: int
    layers: str
    tokens: int
    characters_per_token: float


@dataclass(frozen=True)
class TimedModel:
    """A model that writes `CHARACTERS` characters of its most likely text after each prompt.

    Attributes:
        writer: writes that many characters of real text in tokens, rounded up.
        tokenizer: between text and its tokens.
        synchronize: waits for the device.
        longest_prompt: most tokens of a prompt that it reads.
        description: for people and programs.
        in_numpy: writes the same in NumPy, of a causal model on a CPU.
        parts: what its parts do for prompts, of a model with a light decoder.
    """

    writer: Writer
    tokenizer: TextTokenizer
    synchronize: Callable[[], None]
    longest_prompt: int
    description: ModelDescription
    in_numpy: Writer | None = None
    parts: Callable[[Sequence[Prompt]], Mapping[str, Callable[[], object]]] | None = None

    def read(self, prompts: Sequence[str]) -> list[Prompt]:
        """The prompts as tokens."""
        return [Prompt(self.tokenizer.encode(prompt)[-self.longest_prompt :]) for prompt in prompts]

    def write(self, prompts: Sequence[Prompt]) -> int:
        """Write after each prompt; return the forward passes it took."""
        return self.writer.write(prompts, seed=0).batch_nfe

    def further(self, prompts: Sequence[Prompt]) -> dict[str, Callable[[], object]]:
        """What else is timed beside `write`, by name."""
        found = dict(self.parts(prompts)) if self.parts is not None else {}
        if self.in_numpy is not None:
            found[IN_NUMPY] = partial(self.in_numpy.write, prompts, seed=0)
        return found


@dataclass(frozen=True)
class WritingSpeed:
    """Both models at one batch size, timed in turns.

    Attributes:
        batch: prompts at once.
        model: seconds until each prompt has its `CHARACTERS` characters.
        baseline: the same.
        ratio: baseline's seconds over the model's, round by round.
        rounds: seconds of both in each round.
        further: of the model's parts, where it has a light decoder, and of the causal one of both in NumPy.
    """

    batch: int
    model: TimingQuartiles
    baseline: TimingQuartiles
    ratio: TimingQuartiles
    rounds: dict[str, list[float]]
    further: dict[str, TimingQuartiles] = field(default_factory=dict)

    @property
    def characters_per_s(self) -> dict[str, float]:
        """Characters of all prompts together, by whose they are."""
        written = self.batch * CHARACTERS
        return {"model": written / self.model.median, "baseline": written / self.baseline.median}


def timed_model(trained: TrainedModel, text: RealText, name: str | None = None) -> TimedModel:
    """A run's model under its own name, or another."""
    name, model = name or trained.run.name, trained.config.model
    characters = text.characters_per_token(trained.tokenizer)
    tokens = math.ceil(CHARACTERS / characters)
    writer: Writer
    in_numpy: Writer | None = None
    parts = None
    if trained.is_causal:
        writer = CausalWriter(name, trained.causal, trained.hardware, tokens)
        in_numpy = numpy_writer(trained, tokens)
    else:
        writer = PassageWriter(
            name,
            trained.jepalm,
            trained.hardware,
            length=tokens,
            method=left_to_right(trained),
            passage_length=model.target_len,
            next_source=lambda source, written: written,
        )
        if model.decoder.autoregressive and tokens <= model.target_len:
            parts = partial(parts_of, trained.jepalm, trained.hardware, length=tokens)
    parameters = n_parameters(trained.objective)
    description = ModelDescription(name, model.family, parameters, depth_of(model), tokens, characters)
    longest, synchronize = longest_source(trained), trained.hardware.synchronize
    return TimedModel(writer, trained.tokenizer, synchronize, longest, description, in_numpy, parts)


def numpy_writer(
    trained: TrainedModel, length: int, sampling: Sampling = GREEDY, end: int | None = None
) -> NumpyCausalWriter | None:
    """A causal run in NumPy; None of a backbone, beside a CPU, or of texts longer than the context."""
    model = trained.causal.model
    if not isinstance(model, CausalLM) or trained.hardware.device.type != "cpu":
        return None
    if length > model.context_len:
        return None
    return NumpyCausalWriter(IN_NUMPY, NumpyCausalLM(model), trained.hardware, length, end, sampling)


def untrained_counterpart(trained: TrainedModel, text: RealText) -> TimedModel:
    """An untrained model of the other family, as wide as the run's and as near to its size as can be.

    How long writing takes does not depend on what the weights are.

    Raises:
        UsageError: the run has a backbone, whose width and depth have no counterpart.
    """
    sizes, vocab_size = trained.config.model, trained.tokenizer.vocab_size
    if sizes.backbone is not None:
        raise UsageError(f"{trained.run.name} has a backbone: no model is equal to it", "give --baseline RUN")
    tokens = math.ceil(CHARACTERS / text.characters_per_token(trained.tokenizer))
    model = counterpart(sizes, n_parameters(trained.objective), vocab_size, sizes.source_len + tokens)
    objective = build_untrained(model, vocab_size, trained.hardware)
    config = trained.config.model_copy(update={"model": model})
    built = timed_model(replace(trained, config=config, objective=objective), text, "untrained")
    return replace(built, longest_prompt=sizes.source_len)


def n_parameters(objective: Objective) -> int:
    """Parameters of an objective's model, with those that never learn."""
    return sum(objective.parameters_by_part().values())


def measure_writing(
    model: TimedModel,
    baseline: TimedModel,
    prompts: list[str],
    seconds: float,
    clock: Clock = time.perf_counter,
) -> tuple[list[WritingSpeed], dict[str, int]]:
    """Time both models at every batch size, and count their forward passes.

    Args:
        model: what is measured.
        baseline: what it is set beside.
        prompts: texts to write after; of these a single one has the median length.
        seconds: how long each batch size is measured.
        clock: tells seconds.

    Returns:
        the times, and the forward passes by `model` and `baseline`.
    """
    timed = {"model": model, "baseline": baseline}
    speeds = []
    for batch in BATCHES:
        actions: dict[str, Callable[[], object]] = {}
        for name, one in timed.items():
            read = one.read(_batch_of(prompts, batch))
            actions |= {name: partial(one.write, read), **one.further(read)}
        times = in_turns(actions, seconds, model.synchronize, clock)
        quartiles = {name: TimingQuartiles.of(found) for name, found in times.items()}
        found = WritingSpeed(
            batch,
            quartiles.pop("model"),
            quartiles.pop("baseline"),
            ratio=ratio(times["baseline"], times["model"]),
            rounds=times,
            further=quartiles,
        )
        speeds.append(found)
    return speeds, {name: one.write(one.read(_batch_of(prompts, 1))) for name, one in timed.items()}


def _batch_of(prompts: list[str], n: int) -> list[str]:
    if n == 1:
        return [sorted(prompts, key=len)[len(prompts) // 2]]
    return [prompts[place % len(prompts)] for place in range(n)]
