"""Prompts to text: the prompt is read as the training data was, and each passage as the next source."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from jepalm.data.batches import Tokens
from jepalm.errors import UsageError
from jepalm.generation.loading import TrainedModel
from jepalm.generation.one_shot import Passage, generate


@dataclass(frozen=True)
class Generated:
    """Text that a model made of a prompt.

    Attributes:
        text: all passages, as text.
        passes: forward passes of the generator.
        passages: each passage as the model gave it, for `samples` texts at once.
    """

    text: list[str]
    passes: int
    passages: list[Passage]


@dataclass(frozen=True)
class Source:
    """A prompt as the model reads it: token ids, and what was changed to make them."""

    ids: list[int]
    notes: list[str]


def read_prompt(trained: TrainedModel, prompt: str) -> Source:
    """Turn a prompt into source tokens in the form of the training data.

    A model of lines reads the prompt's last line with its line end, and an empty prompt as a blank
    line; other models need a prompt. A prompt longer than the source keeps its last tokens.

    Raises:
        UsageError: the prompt is empty where it may not be, or has characters outside the alphabet.
    """
    notes = []
    if trained.pairing == "lines":
        *before, last = prompt.removesuffix("\n").split("\n")
        if before:
            notes.append("this model reads one line: the prompt's last one")
        prompt = last + "\n"
    elif not prompt:
        raise UsageError("the prompt is empty", "this model needs a source text to read")
    unknown = trained.tokenizer.unknown_characters(prompt)
    if unknown:
        shown = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in unknown[:3])
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        hint = "use other characters, or train with the byte tokenizer"
        raise UsageError(f"the prompt has characters outside the model's alphabet: {shown}{more}", hint)
    ids = trained.tokenizer.encode(prompt)
    longest = trained.config.model.source_len
    if len(ids) > longest:
        notes.append(f"the prompt has {len(ids)} tokens: the model reads the last {longest}")
    return Source(ids[-longest:], notes)


def continue_text(
    trained: TrainedModel,
    source: Source,
    *,
    passages: int = 1,
    samples: int = 1,
    length: int | None = None,
    length_candidates: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
) -> Generated:
    """Generate passages after a source; each passage's text is the source of the next.

    Raises:
        UsageError: the length is outside 1 to the model's longest target, or there are length candidates
            although the length is given or the model has no length head.
    """
    longest = trained.config.model.target_len
    if length is not None and not 1 <= length <= longest:
        raise UsageError(
            f"length {length} is out of range", f"this model writes 1 to {longest} tokens a pass"
        )
    if length_candidates > 1 and length is not None:
        raise UsageError("length candidates do not go with a length", "leave --length out")
    if length_candidates > 1 and trained.config.objective.length.kind == "none":
        raise UsageError("this model has no length head to take candidates from", "give --length instead")
    device = trained.hardware.device
    generator = torch.Generator(device).manual_seed(seed)
    sources = [source.ids] * samples
    text, made = [""] * samples, []
    for _ in range(passages):
        with trained.hardware.autocast():
            passage = generate(
                trained.objective,
                pad_rows(sources, device),
                length=length,
                length_candidates=length_candidates,
                temperature=temperature,
                generator=generator,
            )
        written = [trained.tokenizer.decode(row) for row in passage.rows()]
        text = [before + after for before, after in zip(text, written, strict=True)]
        sources = [read_prompt_again(trained, after) for after in written]
        made.append(passage)
    return Generated(text, passages, made)


def read_prompt_again(trained: TrainedModel, text: str) -> list[int]:
    """Source tokens of a generated passage; one that decodes to nothing is read as a blank."""
    if trained.pairing == "lines":
        return read_prompt(trained, text).ids
    ids = trained.tokenizer.encode(text or " ")
    return ids[-trained.config.model.source_len :]


def pad_rows(rows: list[list[int]], device: torch.device) -> Tokens:
    """Token lists of unequal length as one padded batch."""
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
    return Tokens(ids.to(device), lengths.to(device))
