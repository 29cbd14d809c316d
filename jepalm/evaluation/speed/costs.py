"""What a text of each column of an evaluation costs: forward passes and time, taken in turns."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from jepalm.data.tokenizer import TextTokenizer
from jepalm.evaluation.speed.parts import DECODER, ENCODER_AND_PREDICTOR
from jepalm.evaluation.speed.timing import Clock, TimingQuartiles, in_turns
from jepalm.generation.writer import GeneratedText, Prompt, Writer

ALONE = 8
"""Texts that are written by themselves, one a round."""
AT_ONCE = 64
"""Texts that are written in one batch."""
PART_METRICS = {ENCODER_AND_PREDICTOR: "predicting", DECODER: "decoding"}
"""Names of the metrics of a model's parts."""


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
    for n in (1, AT_ONCE):
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
