"""How fast verified drafts write an autoregressive model's text, beside that model token by token."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from jepalm.data.batches import pad_rows
from jepalm.evaluation.speed.timing import Clock, Spread, in_turns, ratio
from jepalm.evaluation.speed.writing import RealText, writer_of
from jepalm.generation import token_by_token as autoregressive
from jepalm.generation.loading import TrainedModel
from jepalm.generation.noise import Noise
from jepalm.generation.token_by_token import Sampling
from jepalm.generation.verify import Drafter, Verified, verify
from jepalm.objective import CausalObjective

TEXTS = 8
"""Texts of a round, written one at a time."""


@dataclass(frozen=True)
class Drafted:
    """The texts drafted by one drafter and verified.

    Attributes:
        characters_a_pass: that a verifying pass writes, mean over all passes.
        passes: verifying passes a text, mean.
        same: share of the texts that are the same as token by token; rounding can part them.
        seconds: a text.
        ratio: seconds token by token over these, round by round.
    """

    characters_a_pass: float
    passes: float
    same: float
    seconds: Spread
    ratio: Spread


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
    alone: Spread
    drafted: dict[str, Drafted]


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
        drafters: guess, by name.
        verifying: a causal run that goes with them.
        text: what to write after; the first `TEXTS` prompts are read.
        seconds: how long is measured.
        temperature: of the draws, which the seed 0 decides.
        clock: tells seconds.
    """
    objective, hardware, tokenizer = verifying.objective, verifying.hardware, verifying.tokenizer
    assert isinstance(objective, CausalObjective)
    writer = writer_of(verifying, text)
    settings: dict[str, Any] = {"length": writer.tokens, "sampling": Sampling(temperature)}
    rows = [tokenizer.encode(prompt)[-writer.longest_prompt :] for prompt in text.prompts[:TEXTS]]

    def noise(number: int) -> Noise:
        return Noise(0, tokenizer.vocab_size, hardware.device, first=number)

    def drafted(drafter: Drafter) -> list[Verified]:
        with hardware.autocast():
            return [
                verify(objective, [row], drafter, noise=noise(number), **settings)
                for number, row in enumerate(rows)
            ]

    def alone() -> list[list[int]]:
        with hardware.autocast():
            return [
                autoregressive.generate(
                    objective, pad_rows([row], hardware.device), noise=noise(number), **settings
                ).rows[0]
                for number, row in enumerate(rows)
            ]

    ways: dict[str, Callable[[], object]] = {
        "": alone,
        **{name: partial(drafted, drafter) for name, drafter in drafters.items()},
    }
    times = {
        name: [taken / len(rows) for taken in found]
        for name, found in in_turns(ways, seconds, hardware.synchronize, clock).items()
    }
    own, found = alone(), {}
    for name, drafter in drafters.items():
        made = drafted(drafter)
        passes = sum(one.passes for one in made)
        found[name] = Drafted(
            sum(len(tokenizer.decode(one.rows[0])) for one in made) / passes,
            passes / len(rows),
            sum(one.rows[0] == text for one, text in zip(made, own, strict=True)) / len(rows),
            Spread.of(times[name]),
            ratio(times[""], times[name]),
        )
    return VerifiedSpeed(
        verifying.run.name, len(rows), writer.tokens, temperature, Spread.of(times[""]), found
    )
