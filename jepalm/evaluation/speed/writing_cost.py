"""What a text costs: forward passes, milliseconds by itself, characters a second beside others."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence

from jepalm.data.tokenizer import TextTokenizer
from jepalm.evaluation.interfaces import Sampler
from jepalm.evaluation.rows import MetricRow
from jepalm.evaluation.speed.timing import Clock, Spread, in_turns

ALONE = 8
"""Texts that are written by themselves, one a round."""
AT_ONCE = 64
"""Texts of a batch."""


def cost_rows(
    samplers: Mapping[str, Sampler],
    prompts: Sequence[list[int]],
    lengths: Sequence[int],
    tokenizer: TextTokenizer,
    synchronize: Callable[[], None],
    *,
    seed: int,
    clock: Clock = time.perf_counter,
) -> list[MetricRow]:
    """Rows of passes, latency and speed of every sampler, timed in turns in this process.

    Args:
        samplers: by column.
        prompts: some of them are continued; again from the first where they are fewer than a batch.
        lengths: tokens of each real continuation.
        tokenizer: of all of them.
        synchronize: waits for the device.
        seed: of the draws.
        clock: tells seconds.
    """
    pairs = list(zip(prompts, lengths, strict=True))
    few = [([prompt], [length]) for prompt, length in pairs[:ALONE]]
    batch = [pairs[place % len(pairs)] for place in range(AT_ONCE)]
    together = [prompt for prompt, _ in batch], [length for _, length in batch]
    passes = {name: sampler.passes(*_first(pairs), seed=seed) for name, sampler in samplers.items()}
    alone = in_turns(
        {name: _one_by_one(sampler, few, seed) for name, sampler in samplers.items()},
        0.0,
        synchronize,
        clock,
        least=ALONE,
    )
    written: dict[str, list[list[int]]] = {}
    at_once = in_turns(
        {name: _all_at_once(sampler, name, together, seed, written) for name, sampler in samplers.items()},
        0.0,
        synchronize,
        clock,
    )
    characters = {name: sum(map(len, map(tokenizer.decode, rows))) for name, rows in written.items()}
    speeds = {name: characters[name] / Spread.of(times).median for name, times in at_once.items()}
    latencies = {name: 1000 * Spread.of(times).median for name, times in alone.items()}
    return [
        MetricRow("cost/passes", passes),
        MetricRow("cost/latency", latencies),
        MetricRow("cost/characters_per_s", speeds),
    ]


def _first(pairs: Sequence[tuple[list[int], int]]) -> tuple[list[list[int]], list[int]]:
    return [prompt for prompt, _ in pairs[:ALONE]], [length for _, length in pairs[:ALONE]]


def _one_by_one(
    sampler: Sampler, texts: Sequence[tuple[list[list[int]], list[int]]], seed: int
) -> Callable[[], object]:
    """Writes the next text at every call."""
    turns = itertools.cycle(texts)
    return lambda: sampler.sample(*next(turns), seed=seed)


def _all_at_once(
    sampler: Sampler,
    name: str,
    texts: tuple[list[list[int]], list[int]],
    seed: int,
    written: dict[str, list[list[int]]],
) -> Callable[[], object]:
    """Writes a batch, and keeps it."""

    def write() -> None:
        written[name] = sampler.sample(*texts, seed=seed)

    return write
