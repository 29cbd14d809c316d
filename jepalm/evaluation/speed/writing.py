"""How fast a model writes: 64 characters in one shot or token by token, beside another model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from jepalm.data.batches import Batches, Tokens, pad_rows
from jepalm.data.prepared import PreparedData
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import UsageError
from jepalm.evaluation.speed.equal_size import build_untrained, counterpart, depth_of
from jepalm.evaluation.speed.timing import Clock, Spread, in_turns, ratio
from jepalm.generation import one_pass as one_shot
from jepalm.generation import token_by_token as autoregressive
from jepalm.generation.loading import TrainedModel
from jepalm.generation.text import longest_source
from jepalm.hardware import Hardware
from jepalm.objective import CausalObjective, JepalmObjective, Objective

CHARACTERS = 64
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


@dataclass(frozen=True)
class Writer:
    """A model and how much it has to write.

    Attributes:
        name: of its run, or `untrained`.
        objective: the model, in evaluation mode.
        tokenizer: between text and its tokens.
        hardware: where it lies and in which precision it computes.
        longest_prompt: most tokens of a prompt that it reads.
        characters_a_token: of real text under its tokenizer.
    """

    name: str
    objective: Objective
    tokenizer: TextTokenizer
    hardware: Hardware
    longest_prompt: int
    characters_a_token: float

    @property
    def tokens(self) -> int:
        """Tokens that `CHARACTERS` characters of real text have, rounded up."""
        return math.ceil(CHARACTERS / self.characters_a_token)

    def read(self, prompts: list[str]) -> Tokens:
        """The prompts as tokens on the device."""
        rows = [self.tokenizer.encode(prompt)[-self.longest_prompt :] for prompt in prompts]
        return pad_rows(rows, self.hardware.device)

    def write(self, prompts: Tokens) -> int:
        """Write `tokens` most likely tokens after each prompt; return the forward passes it took."""
        with self.hardware.autocast():
            if isinstance(self.objective, CausalObjective):
                return autoregressive.generate(self.objective, prompts, length=self.tokens).passes
            assert isinstance(self.objective, JepalmObjective)
            return write_passages(self.objective, prompts, self.tokens)


def write_passages(objective: JepalmObjective, source: Tokens, tokens: int) -> int:
    """Write passages, each the next one's source, until there are enough tokens; return how many."""
    passes, left = 0, tokens
    while left > 0:
        passage = one_shot.generate(objective, source, length=left)
        passage.rows()  # the tokens reach the program, as those of the autoregressive model do
        ids = passage.ids[:, -objective.model.config.source_len :]
        source = Tokens(ids, torch.full_like(passage.lengths, ids.shape[1]))
        left -= passage.ids.shape[1]
        passes += 1
    return passes


@dataclass(frozen=True)
class WrittenBy:
    """Who wrote.

    Attributes:
        name: of the run, or `untrained`.
        family: `jepalm` or `causal`.
        parameters: of the model.
        layers: for people.
        tokens: written after each prompt.
        characters_a_token: of real text under its tokenizer.
        passes: forward passes of these tokens.
    """

    name: str
    family: str
    parameters: int
    layers: str
    tokens: int
    characters_a_token: float
    passes: int


@dataclass(frozen=True)
class WritingSpeed:
    """Both models at one batch size, timed in turns.

    Attributes:
        batch: prompts at once.
        model: seconds until each prompt has its `CHARACTERS` characters.
        baseline: the same.
        ratio: baseline's seconds over the model's, round by round.
        rounds: seconds of both in each round.
    """

    batch: int
    model: Spread
    baseline: Spread
    ratio: Spread
    rounds: dict[str, list[float]]

    @property
    def characters_per_s(self) -> dict[str, float]:
        """Characters of all prompts together, by whose they are."""
        written = self.batch * CHARACTERS
        return {"model": written / self.model.median, "baseline": written / self.baseline.median}


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


def writer_of(trained: TrainedModel, text: RealText) -> Writer:
    """A run's own model."""
    return Writer(
        trained.run.name,
        trained.objective,
        trained.tokenizer,
        trained.hardware,
        longest_source(trained),
        _characters_a_token(trained.tokenizer, text),
    )


def untrained_writer(trained: TrainedModel, text: RealText) -> Writer:
    """A model of the other family, as wide as the run's and as near to its number of parameters as can be.

    How long writing takes does not depend on what the weights are.

    Raises:
        UsageError: the run has a backbone, whose width and depth have no counterpart.
    """
    if trained.config.model.backbone is not None:
        raise UsageError(f"{trained.run.name} has a backbone: no model is equal to it", "give --baseline RUN")
    own = writer_of(trained, text)
    sizes = trained.config.model
    vocab_size, context_len = trained.tokenizer.vocab_size, sizes.source_len + own.tokens
    model = counterpart(sizes, parameters(own.objective), vocab_size, context_len)
    objective = build_untrained(model, vocab_size, trained.hardware)
    return Writer(
        "untrained",
        objective,
        trained.tokenizer,
        trained.hardware,
        sizes.source_len,
        own.characters_a_token,
    )


def measure_writing(
    model: Writer,
    baseline: Writer,
    prompts: list[str],
    seconds: float,
    clock: Clock = time.perf_counter,
) -> tuple[list[WritingSpeed], dict[str, WrittenBy]]:
    """Time both models at every batch size, and count their passes.

    Args:
        model: what is measured.
        baseline: what it is set beside.
        prompts: texts to write after; of these a single one has the median length.
        seconds: how long each batch size is measured.
        clock: tells seconds.
    """
    writers = {"model": model, "baseline": baseline}
    speeds = []
    for batch in BATCHES:
        actions: dict[str, Callable[[], object]] = {
            name: partial(writer.write, writer.read(_batch_of(prompts, batch)))
            for name, writer in writers.items()
        }
        times = in_turns(actions, seconds, model.hardware.synchronize, clock)
        spreads = {name: Spread.of(found) for name, found in times.items()}
        speeds.append(
            WritingSpeed(batch, **spreads, ratio=ratio(times["baseline"], times["model"]), rounds=times)
        )
    return speeds, {name: _described(writer, prompts) for name, writer in writers.items()}


def parameters(objective: Objective) -> int:
    """Parameters of an objective's model, with those that never learn."""
    return sum(objective.parameters_by_part().values())


def _described(writer: Writer, prompts: list[str]) -> WrittenBy:
    assert isinstance(writer.objective, CausalObjective | JepalmObjective)
    config = writer.objective.model.config
    return WrittenBy(
        writer.name,
        config.family,
        parameters(writer.objective),
        depth_of(config),
        writer.tokens,
        writer.characters_a_token,
        writer.write(writer.read(_batch_of(prompts, 1))),
    )


def _batch_of(prompts: list[str], n: int) -> list[str]:
    if n == 1:
        return [sorted(prompts, key=len)[len(prompts) // 2]]
    return [prompts[place % len(prompts)] for place in range(n)]


def _characters_a_token(tokenizer: TextTokenizer, text: RealText) -> float:
    return len(text.targets) / len(tokenizer.encode(text.targets))
