"""How fast verified drafts write an autoregressive model's text, beside that model token by token."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from jepalm.data.batches import pad_rows
from jepalm.evaluation.timing import Clock, Spread, in_turns, ratio
from jepalm.evaluation.writing_speed import RealText, writer_of
from jepalm.generation import autoregressive
from jepalm.generation.autoregressive import Sampling
from jepalm.generation.loading import TrainedModel
from jepalm.generation.noise import Noise
from jepalm.generation.verification import Drafter, Verified, verify
from jepalm.objective import CausalObjective

TEXTS = 8
"""Texts of a round, written one at a time."""


@dataclass(frozen=True)
class VerifiedSpeed:
    """The same texts written twice, at batch 1 and in turns.

    Attributes:
        verifier: name of the run whose texts they are.
        texts: how many, each after a prompt of its own.
        tokens: of each.
        characters_a_pass: that a verifying pass writes, mean over all passes.
        passes: verifying passes a text, mean.
        temperature: of the draws.
        same: share of the texts that are the same both ways; rounding can part them.
        verified: seconds a text, drafted and verified.
        alone: seconds a text, token by token with keys and values kept.
        ratio: the second over the first, round by round.
    """

    verifier: str
    texts: int
    tokens: int
    characters_a_pass: float
    passes: float
    temperature: float
    same: float
    verified: Spread
    alone: Spread
    ratio: Spread


def measure_verified(
    drafter: Drafter,
    verifying: TrainedModel,
    text: RealText,
    seconds: float,
    *,
    temperature: float = 1.0,
    clock: Clock = time.perf_counter,
) -> VerifiedSpeed:
    """Time both ways to the same texts.

    Args:
        drafter: guesses.
        verifying: a causal run that goes with the drafter.
        text: what to write after; the first `TEXTS` prompts are read.
        seconds: how long is measured.
        temperature: of the draws, which the seed 0 decides.
        clock: tells seconds.
    """
    objective, hardware, tokenizer = verifying.objective, verifying.hardware, verifying.tokenizer
    assert isinstance(objective, CausalObjective)
    writer, sampling = writer_of(verifying, text), Sampling(temperature)
    rows = [tokenizer.encode(prompt)[-writer.longest_prompt :] for prompt in text.prompts[:TEXTS]]
    length = writer.tokens

    def noise(number: int) -> Noise:
        return Noise(0, tokenizer.vocab_size, hardware.device, first=number)

    def drafted() -> list[Verified]:
        with hardware.autocast():
            return [
                verify(objective, [row], drafter, length=length, sampling=sampling, noise=noise(number))
                for number, row in enumerate(rows)
            ]

    def alone() -> list[list[int]]:
        with hardware.autocast():
            return [
                autoregressive.generate(
                    objective,
                    pad_rows([row], hardware.device),
                    length=length,
                    sampling=sampling,
                    noise=noise(number),
                ).rows[0]
                for number, row in enumerate(rows)
            ]

    made, own = drafted(), alone()
    actions: dict[str, Callable[[], object]] = {"verified": drafted, "alone": alone}
    times = {
        name: [round_ / len(rows) for round_ in found]
        for name, found in in_turns(actions, seconds, hardware.synchronize, clock).items()
    }
    passes = sum(one.passes for one in made)
    return VerifiedSpeed(
        verifying.run.name,
        len(rows),
        length,
        sum(len(tokenizer.decode(one.rows[0])) for one in made) / passes,
        passes / len(rows),
        temperature,
        sum(one.rows[0] == text for one, text in zip(made, own, strict=True)) / len(rows),
        Spread.of(times["verified"]),
        Spread.of(times["alone"]),
        ratio(times["alone"], times["verified"]),
    )
