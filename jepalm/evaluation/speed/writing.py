"""How fast models write, and in how many forward passes: each beside others, timed in turns.

`measure_costs` times the columns of an evaluation, `measure_writing` a run beside a baseline at two batch
sizes, and `measure_verified` an autoregressive model's text from verified drafts beside token by token.
"""

from __future__ import annotations

import itertools
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
from jepalm.evaluation.speed.parts import DECODER, ENCODER_AND_PREDICTOR, parts_of
from jepalm.evaluation.speed.timing import Clock, TimingQuartiles, in_turns, ratio
from jepalm.generation.loading import TrainedModel
from jepalm.generation.prompts import longest_source
from jepalm.generation.roll import PassageWriter
from jepalm.generation.sampling import GREEDY, Sampling
from jepalm.generation.token_by_token import CausalWriter
from jepalm.generation.verify import Drafter, verified_writer
from jepalm.generation.writer import GeneratedText, Prompt, Writer
from jepalm.generation.writers import left_to_right
from jepalm.model.causal import CausalLM
from jepalm.objective import Objective

ALONE = 8
"""Texts that are written by themselves: of an evaluation one a round, of verified drafts all in each."""
AT_ONCE = 64
"""Texts of an evaluation that are written in one batch."""
PART_METRICS = {ENCODER_AND_PREDICTOR: "predicting", DECODER: "decoding"}
"""Names of the metrics of a model's parts."""
IN_NUMPY = "causal, NumPy"
"""The causal model token by token in NumPy (`NumpyCausalWriter`)."""
CHARACTERS = 64
"""Written after each prompt by `measure_writing`."""
BATCHES = (1, 64)
PROMPTS = 64


def measure_costs(
    writers: Mapping[str, Writer],
    prompts: Sequence[list[int]],
    lengths: Sequence[int],
    tokenizer: TextTokenizer,
    synchronize: Callable[[], None],
    *,
    seed: int,
    parts: Callable[[Sequence[Prompt]], Mapping[str, Callable[[], object]]] | None = None,
    clock: Clock = time.perf_counter,
) -> dict[str, dict[str, float]]:
    """What a text of each writer costs, timed in turns in this process.

    Args:
        writers: by column.
        prompts: token ids; some of them are continued, again from the first where they are less than a batch.
        lengths: tokens of each real continuation.
        tokenizer: of all of them.
        synchronize: waits for the device.
        seed: of the draws.
        parts: what the parts of a model with a light decoder do for prompts.
        clock: tells seconds.

    Returns:
        by metric, of every column: `cost/passes`, forward passes a text; `cost/latency`, milliseconds of a
        text by itself; `cost/characters_per_s` of `AT_ONCE` texts at once; and of the parts, of one text and
        of `AT_ONCE`, the milliseconds.
    """
    pairs = [(Prompt(prompt), length) for prompt, length in zip(prompts, lengths, strict=True)]
    batch = [pairs[place % len(pairs)] for place in range(AT_ONCE)]
    nfe = {name: _write(writer, pairs[:ALONE], seed).mean_nfe for name, writer in writers.items()}
    alone = in_turns(
        {name: _one_by_one(writer, pairs[:ALONE], seed) for name, writer in writers.items()},
        0.0,
        synchronize,
        clock,
        least=ALONE,
    )
    written: dict[str, GeneratedText] = {}

    def write_batch(name: str) -> None:
        written[name] = _write(writers[name], batch, seed)

    at_once = in_turns({name: partial(write_batch, name) for name in writers}, 0.0, synchronize, clock)
    characters = {name: sum(len(tokenizer.decode(row)) for row in made.ids) for name, made in written.items()}
    apart: dict[str, dict[str, float]] = {}
    for n in BATCHES:
        if parts is None:
            break
        actions = parts([Prompt(prompts[place % len(prompts)]) for place in range(n)])
        for name, times in in_turns(actions, 0.0, synchronize, clock, least=ALONE).items():
            apart[f"cost/{PART_METRICS[name]}_{n}"] = {"model": 1000 * TimingQuartiles.of(times).median}
    return {
        "cost/passes": nfe,
        "cost/latency": {name: 1000 * TimingQuartiles.of(times).median for name, times in alone.items()},
        "cost/characters_per_s": {
            name: characters[name] / TimingQuartiles.of(times).median for name, times in at_once.items()
        },
        **apart,
    }


def _write(writer: Writer, texts: Sequence[tuple[Prompt, int]], seed: int) -> GeneratedText:
    prompts, lengths = zip(*texts, strict=True)
    return writer.write(prompts, seed=seed, lengths=lengths)


def _one_by_one(writer: Writer, texts: Sequence[tuple[Prompt, int]], seed: int) -> Callable[[], object]:
    """Writes the next text at every call."""
    turns = itertools.cycle(texts)
    return lambda: _write(writer, [next(turns)], seed)


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


@dataclass(frozen=True)
class DraftedSpeed:
    """The texts drafted by one drafter and verified.

    Attributes:
        characters_per_check: that a verifying pass writes, mean over all of them.
        checks: verifying passes a text, mean.
        same: share of the texts that are the same as token by token; rounding can part them.
        seconds: a text.
        ratio: seconds token by token over these, round by round.
    """

    characters_per_check: float
    checks: float
    same: float
    seconds: TimingQuartiles
    ratio: TimingQuartiles


@dataclass(frozen=True)
class VerifiedSpeed:
    """The same texts written in several ways, at batch 1 and in turns.

    Attributes:
        verifier: name of the run whose texts they are.
        texts: how many, each after a prompt of its own.
        tokens: of each.
        temperature: of the draws.
        alone: seconds a text, token by token with keys and values kept.
        drafted: by who drafted.
    """

    verifier: str
    texts: int
    tokens: int
    temperature: float
    alone: TimingQuartiles
    drafted: dict[str, DraftedSpeed]


def measure_verified(
    drafters: Mapping[str, Drafter],
    verifying: TrainedModel,
    text: RealText,
    seconds: float,
    *,
    temperature: float = 1.0,
    clock: Clock = time.perf_counter,
) -> VerifiedSpeed:
    """Time the ways to the same texts.

    Args:
        drafters: by name.
        verifying: a causal run that goes with them (`check_verifier`).
        text: what to write after; the first `ALONE` prompts are read.
        seconds: how long is measured.
        temperature: of the draws, which the seed 0 decides.
        clock: tells seconds.
    """
    model, tokenizer, sampling = timed_model(verifying, text), verifying.tokenizer, Sampling(temperature)
    tokens, prompts = model.description.tokens, model.read(text.prompts[:ALONE])
    alone = CausalWriter(
        verifying.run.name, verifying.causal, verifying.hardware, tokens, sampling=sampling, batch_size=1
    )
    writers: dict[str, Writer] = {
        "": alone,
        **{
            name: verified_writer(verifying, drafter, length=tokens, sampling=sampling, batch_size=1)
            for name, drafter in drafters.items()
        },
    }
    made: dict[str, GeneratedText] = {}

    def write(name: str) -> None:
        made[name] = writers[name].write(prompts, seed=0)

    actions = {name: partial(write, name) for name in writers}
    times = {
        name: [taken / len(prompts) for taken in found]
        for name, found in in_turns(actions, seconds, verifying.hardware.synchronize, clock).items()
    }
    found = {}
    for name in drafters:
        written = made[name]
        found[name] = DraftedSpeed(
            sum(len(tokenizer.decode(row)) for row in written.ids) / sum(written.checks),
            sum(written.checks) / len(prompts),
            sum(row == own for row, own in zip(written.ids, made[""].ids, strict=True)) / len(prompts),
            TimingQuartiles.of(times[name]),
            ratio(times[""], times[name]),
        )
    alone_seconds = TimingQuartiles.of(times[""])
    return VerifiedSpeed(verifying.run.name, len(prompts), tokens, temperature, alone_seconds, found)
