"""`jepalm generate --verify`: one run drafts, an autoregressive one checks and has the last word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jepalm.config import HardwareConfig
    from jepalm.generation.loading import TrainedModel
    from jepalm.generation.token_by_token import Sampling
    from jepalm.generation.verify import Drafter

TEACHER = "teacher"
"""Names the run that the drafter learned from."""
NGRAM = "5-gram"
"""Names a drafter that is no run: counts of the verifier's training text."""


def open_drafter(run: Path, checkpoint: str, hardware: HardwareConfig) -> TrainedModel | None:
    """Load the run that drafts; None for the 5-gram."""
    from jepalm.generation.loading import load_trained
    from jepalm.run import open_run

    if str(run) == NGRAM and not run.exists():
        return None
    return load_trained(open_run(run), checkpoint, hardware)


def open_verifier(asked: str, drafting: TrainedModel | None, hardware: HardwareConfig) -> TrainedModel:
    """Load the run that verifies.

    Args:
        asked: a run folder, or `teacher`.
        drafting: the run that drafts; None for the 5-gram.
        hardware: where it computes.

    Raises:
        UsageError: there is no such run, or the drafter names no teacher.
    """
    from jepalm.errors import UsageError
    from jepalm.generation.loading import load_trained
    from jepalm.run import open_run

    if asked == TEACHER and not Path(asked).exists():
        if drafting is None:
            raise UsageError(f"the {NGRAM} has no teacher", "name the causal run that verifies: --verify RUN")
        teacher = drafting.config.objective.coupling.teacher
        if teacher is None:
            message = f"{drafting.run.name} was trained without a teacher"
            raise UsageError(message, "name the causal run that verifies: --verify RUN")
        asked = teacher
    return load_trained(open_run(Path(asked)), hardware=hardware)


def show_verified(
    drafting: TrainedModel | None,
    verifying: TrainedModel,
    text: str,
    *,
    samples: int,
    length: int | None,
    sampling: Sampling,
    seed: int,
    as_json: bool,
) -> None:
    """Write after a prompt and print the texts, how far drafts were right and how long it took.

    Args:
        drafting: a JEPALM of windows; None for the 5-gram.
        verifying: a causal run of windows.
        text: the prompt.
        samples: texts to write.
        length: tokens of each.
        sampling: how tokens are chosen.
        seed: of the noise.
        as_json: print one JSON object instead.
    """
    import json
    import sys
    import time

    from jepalm.cli.console import console, errors
    from jepalm.generation.text import read_prompt
    from jepalm.generation.verified_text import continue_verified, drafter_of, verifier_of
    from jepalm.numbers import three

    verifier_of(verifying, drafting)
    drafter = _counted(verifying) if drafting is None else drafter_of(drafting)
    source = read_prompt(verifying, text)
    for note in source.notes:
        errors.print(f"note: {note}", markup=False)
    start = time.perf_counter()
    made = continue_verified(
        drafter, verifying, [source] * samples, length=length, sampling=sampling, seed=seed
    )
    verifying.hardware.synchronize()
    seconds = time.perf_counter() - start
    characters, verified = sum(map(len, made.text)), made.verified
    if as_json:
        row = {
            "prompt": verifying.tokenizer.decode(source.ids),
            "texts": made.text,
            "passes": verified.passes,
            "passes_of": verified.passes_of,
            "drafts": verified.drafts,
            "characters": characters,
            "characters_per_pass": made.characters_a_pass,
            "seconds": round(seconds, 6),
            "temperature": sampling.temperature,
            "seed": seed,
            "run": drafting.run.name if drafting is not None else NGRAM,
            "step": drafting.checkpoint.step if drafting is not None else None,
            "verifier": verifying.run.name,
            "verifier_step": verifying.checkpoint.step,
        }
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        return
    drafts = NGRAM
    if drafting is not None:
        drafts = f"{drafting.run.name} at step {drafting.checkpoint.step:,}"
    for one in made.text:
        console.print(one, markup=False, end="" if one.endswith("\n") else "\n")
    errors.print(
        f"{verified.passes} verifying passes, {verified.drafts} drafts · {characters} characters,"
        f" {three(made.characters_a_pass)} a pass · {1000 * seconds:.0f} ms"
        f" · text of {verifying.run.name} at step {verifying.checkpoint.step:,}"
        f" · drafts of {drafts}",
        style="dim",
        markup=False,
    )


def _counted(verifying: TrainedModel) -> Drafter:
    """The n-gram of a run's training text as a drafter."""
    from jepalm.evaluation.text.held_out import read_training_text
    from jepalm.evaluation.text.ngram import NGram
    from jepalm.evaluation.text.ngram_drafter import NGramDrafter

    training = read_training_text(verifying.data())
    return NGramDrafter(NGram.fit(training.ids, verifying.tokenizer.vocab_size))
