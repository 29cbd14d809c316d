"""`jepalm generate --prompts`: many prompts in, one JSON row each out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jepalm.generation.loading import TrainedModel


def show_many(trained: TrainedModel, lines: list[str], **settings: Any) -> None:
    """Write after each prompt and print `{"prompt", "texts"}`, in the order of the prompts.

    Args:
        trained: the model.
        lines: the prompts.
        settings: as `continue_many` takes them.
    """
    import json
    import sys
    import time

    from jepalm.cli.console import errors
    from jepalm.generation.many import continue_many, read_prompts

    sources = read_prompts(trained, lines)
    changed = sum(bool(source.notes) for source in sources)
    if changed:
        errors.print(f"note: of {changed} prompts the model reads only the end", markup=False)
    start = time.perf_counter()
    passes = characters = done = 0
    for written in continue_many(trained, sources, **settings):
        for texts in written.texts:
            row = {"prompt": trained.tokenizer.decode(sources[done].ids), "texts": texts}
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
            characters += sum(map(len, texts))
            done += 1
        sys.stdout.flush()
        passes += written.passes
    trained.hardware.synchronize()
    seconds = time.perf_counter() - start
    errors.print(
        f"{done} prompts · {passes} passes · {characters:,} characters · {seconds:.3g} s"
        f" · {characters / seconds:,.0f} characters/s · {trained.run.name}"
        f" at step {trained.checkpoint.step:,}",
        style="dim",
        markup=False,
    )
