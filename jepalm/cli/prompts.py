"""`jepalm generate --prompts`: many prompts in, one JSON row each out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jepalm.cli.texts import TextRequest
    from jepalm.generation.loading import TrainedModel
    from jepalm.generation.writers import WritingOptions


def read_lines(path: Path) -> list[str]:
    """The lines of a file without their ends, or those of standard input.

    Raises:
        UsageError: it cannot be read as text.
    """
    from jepalm.cli.texts import standard_input
    from jepalm.encodings import lines_of, read_text

    return lines_of(standard_input() if str(path) == "-" else read_text(path, "--prompts takes a text file"))


def show_many(
    trained: TrainedModel,
    options: WritingOptions,
    asked: TextRequest,
    lines: list[str],
    action: list[int] | None,
) -> None:
    """Write after each prompt and print `{"prompt", "texts"}`, batch by batch, in the order of the prompts.

    The draws of a batch are decided by the seed and the batch's number.
    """
    import sys
    import time

    import numpy as np

    from jepalm.cli.console import print_json
    from jepalm.cli.texts import print_dim, print_notes
    from jepalm.generation.prompts import read_prompts
    from jepalm.generation.writer import Prompt
    from jepalm.generation.writers import writer_for
    from jepalm.numbers import are, counted, duration

    writer, decode = writer_for(trained, options), trained.tokenizer.decode
    read = read_prompts(trained, lines)
    if cut := [one.cut for one in read if one.cut]:
        what = f"{counted(len(cut), 'prompt')} {are(len(cut))} longer than the model reads"
        print_notes([f"{what}: in all the first {counted(sum(cut), 'token')} {are(sum(cut))} cut"])
    start = time.perf_counter()
    nfe = characters = 0
    at_once = max(1, options.batch_size // asked.samples)
    for number, at in enumerate(range(0, len(read), at_once)):
        batch = [Prompt(one.ids, action) for one in read[at : at + at_once] for _ in range(asked.samples)]
        seed = int(np.random.SeedSequence([asked.seed, number]).generate_state(1)[0])
        made = writer.write(batch, seed=seed)
        texts = [decode(ids) for ids in made.ids]
        for place, first in enumerate(range(0, len(batch), asked.samples), at):
            print_json({"prompt": decode(read[place].ids), "texts": texts[first : first + asked.samples]})
        sys.stdout.flush()
        characters += sum(map(len, texts))
        nfe += made.batch_nfe
    trained.hardware.synchronize()
    seconds = time.perf_counter() - start
    print_dim(
        f"{counted(len(read), 'prompt')} · {counted(nfe, 'forward pass')}"
        f" · {counted(characters, 'character')} · {duration(seconds)}"
        f" · {characters / seconds:,.0f} characters/s · {trained.run.name}"
        f" at step {trained.checkpoint.step:,}"
    )
