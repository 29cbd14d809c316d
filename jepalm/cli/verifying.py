"""`jepalm generate --verify`: one run drafts, an autoregressive one checks and has the last word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jepalm.cli.texts import TextRequest
    from jepalm.config import HardwareConfig
    from jepalm.generation.loading import TrainedModel
    from jepalm.generation.sampling import Sampling
    from jepalm.generation.verify import Drafter

TEACHER = "teacher"
"""Names the run that the drafter learned from."""
NGRAM = "5-gram"
"""Names a drafter that is no run: counts of the verifier's training text."""


def open_drafter(run: Path, checkpoint: str | None, hardware: HardwareConfig) -> TrainedModel | None:
    """Load the run that drafts; None for the 5-gram."""
    from jepalm.generation.loading import load_folder

    if str(run) == NGRAM and not run.exists():
        return None
    return load_folder(run, checkpoint, hardware)


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
    from jepalm.generation.loading import load_folder

    if asked == TEACHER and not Path(asked).exists():
        if drafting is None:
            raise UsageError(f"the {NGRAM} has no teacher", "name the causal run that verifies: --verify RUN")
        teacher = drafting.config.objective.coupling.teacher
        if teacher is None:
            message = f"{drafting.run.name} was trained without a teacher"
            raise UsageError(message, "name the causal run that verifies: --verify RUN")
        asked = teacher
    return load_folder(Path(asked), hardware=hardware)


def show_verified(
    drafting: TrainedModel | None,
    verifying: TrainedModel,
    text: str,
    length: int | None,
    sampling: Sampling,
    asked: TextRequest,
) -> None:
    """Write after a prompt and print the texts, how far drafts were right and how long it took.

    Args:
        drafting: a JEPALM of windows; None for the 5-gram.
        verifying: a causal run of windows.
        text: the prompt.
        length: tokens of each text.
        sampling: how tokens are chosen.
        asked: how many texts, and how to print them.
    """
    import time

    from jepalm.cli.console import print_json
    from jepalm.cli.texts import print_dim, print_notes, print_texts
    from jepalm.generation.prompts import read_prompt
    from jepalm.generation.verify import check_verifier, drafter_of, verified_writer
    from jepalm.generation.writer import Prompt
    from jepalm.numbers import counted, duration, three

    check_verifier(verifying, drafting)
    drafter = _ngram_drafter(verifying, asked.data_dir) if drafting is None else drafter_of(drafting)
    writer = verified_writer(verifying, drafter, length=length, sampling=sampling, batch_size=asked.samples)
    source = read_prompt(verifying, text)
    print_notes(source.notes)
    start = time.perf_counter()
    made = writer.write([Prompt(source.ids)] * asked.samples, seed=asked.seed)
    verifying.hardware.synchronize()
    seconds = time.perf_counter() - start
    texts = [verifying.tokenizer.decode(ids) for ids in made.ids]
    characters = sum(map(len, texts))
    per_check = characters / sum(made.checks)
    if asked.as_json:
        print_json(
            {
                "prompt": verifying.tokenizer.decode(source.ids),
                "texts": texts,
                "nfe": made.batch_nfe,
                "checks": max(made.checks),
                "checks_of_each": made.checks,
                "drafts": max(made.drafts),
                "characters": characters,
                "characters_per_check": per_check,
                "seconds": round(seconds, 6),
                "temperature": sampling.temperature,
                "seed": asked.seed,
                "run": drafting.run.name if drafting is not None else NGRAM,
                "step": drafting.checkpoint.step if drafting is not None else None,
                "verifier": verifying.run.name,
                "verifier_step": verifying.checkpoint.step,
            }
        )
        return
    drafts = NGRAM
    if drafting is not None:
        drafts = f"{drafting.run.name} at step {drafting.checkpoint.step:,}"
    print_texts(texts)
    print_dim(
        f"{counted(max(made.checks), 'verifying pass')}, {counted(max(made.drafts), 'draft')}"
        f" · {counted(characters, 'character')}, {three(per_check)} a verifying pass"
        f" · {duration(seconds, digits=2)}"
        f" · text of {verifying.run.name} at step {verifying.checkpoint.step:,}"
        f" · drafts of {drafts}"
    )


def _ngram_drafter(verifying: TrainedModel, data_dir: Path | None) -> Drafter:
    """The n-gram of a run's training text as a drafter."""
    from jepalm.data.ngram import NGram
    from jepalm.evaluation.text.held_out import read_training_text
    from jepalm.evaluation.text.ngram_drafter import NGramDrafter

    training = read_training_text(verifying.data(data_dir))
    return NGramDrafter(NGram.fit(training.ids, verifying.tokenizer.vocab_size))
