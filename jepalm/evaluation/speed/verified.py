"""How fast a causal model's text is written from verified drafts, beside token by token."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from jepalm.evaluation.speed.timing import Clock, TimingQuartiles, in_turns, ratio
from jepalm.evaluation.speed.writing import RealText, timed_model
from jepalm.generation.loading import TrainedModel
from jepalm.generation.sampling import Sampling
from jepalm.generation.token_by_token import CausalWriter
from jepalm.generation.verify import Drafter, verified_writer
from jepalm.generation.writer import GeneratedText, Writer

TEXTS = 8
"""Texts that are written in each round."""


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
        text: what to write after; the first `TEXTS` prompts are read.
        seconds: how long is measured.
        temperature: of the draws, which the seed 0 decides.
        clock: tells seconds.
    """
    model, tokenizer, sampling = timed_model(verifying, text), verifying.tokenizer, Sampling(temperature)
    tokens, prompts = model.description.tokens, model.read(text.prompts[:TEXTS])
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
