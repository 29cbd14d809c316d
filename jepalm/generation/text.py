"""Prompts to text: the prompt is read as the training data was, and each passage as the next source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from jepalm.data.batches import pad_rows
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import UsageError
from jepalm.generation import one_pass as one_shot
from jepalm.generation import token_by_token as autoregressive
from jepalm.generation.loading import TrainedModel
from jepalm.generation.noise import Noise
from jepalm.generation.one_pass import Passage
from jepalm.generation.refine import Refining
from jepalm.generation.roll import noise_of, roll
from jepalm.generation.token_by_token import Sampling
from jepalm.objective import CausalObjective, JepalmObjective
from jepalm.objective.views import prompt_row


@dataclass(frozen=True)
class Generated:
    """Text that a model made of a prompt.

    Attributes:
        text: all passages, as text.
        passes: forward passes of the generator; the JEPALM's encoder reads each source once.
        passages: each passage as the JEPALM gave it, for all texts at once; none of a causal model.
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
        UsageError: the model fills gaps instead, the prompt is empty where it may not be, or has characters
            outside the alphabet.
    """
    if trained.pairing == "spans":
        hint = 'give it gaps: jepalm generate --infill "To be, or ____ to be"'
        raise UsageError(f"{trained.run.name} fills gaps in a text and does not continue one", hint)
    notes = []
    if trained.pairing == "lines":
        *before, last = prompt.removesuffix("\n").split("\n")
        if before:
            notes.append("this model reads one line: the prompt's last one")
        prompt = last + "\n"
    elif not prompt:
        raise UsageError("the prompt is empty", "this model needs a source text to read")
    check_alphabet(trained, prompt)
    ids = trained.tokenizer.encode(prompt)
    longest = longest_source(trained)
    if len(ids) > longest:
        notes.append(f"the prompt has {len(ids)} tokens: the model reads the last {longest}")
    return Source(ids[-longest:], notes)


def read_action(trained: TrainedModel, action: str) -> list[int]:
    """Turn an action into the tokens that the model reads, the last `action_len` of them.

    Raises:
        UsageError: the model reads no action, or it is empty or has characters outside the alphabet.
    """
    if not trained.reads_actions:
        hint = "train one with --preset transitions"
        raise UsageError(f"{trained.run.name} was trained without actions", hint)
    if not action:
        raise UsageError("the action is empty", "say what is done")
    check_alphabet(trained, action)
    return trained.tokenizer.encode(action)[-trained.config.model.longest_action :]


def check_alphabet(trained: TrainedModel, text: str) -> None:
    """Check that the model's tokenizer has every character of a text.

    Raises:
        UsageError: it lacks some.
    """
    unknown = trained.tokenizer.unknown_characters(text)
    if unknown:
        shown = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in unknown[:3])
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        hint = "use other characters, or train with the byte tokenizer"
        raise UsageError(f"the prompt has characters outside the model's alphabet: {shown}{more}", hint)


def continue_text(trained: TrainedModel, source: Source, *, samples: int = 1, **settings: Any) -> Generated:
    """Generate `samples` texts after one source; settings and errors are those of `continue_texts`."""
    return continue_texts(trained, [source] * samples, **settings)


def continue_texts(
    trained: TrainedModel,
    sources: Sequence[Source],
    *,
    action: list[int] | None = None,
    passages: int = 1,
    length: int | None = None,
    length_candidates: int = 1,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    refining: Refining | None = None,
    discard: float = 0.0,
    keep: float | None = None,
) -> Generated:
    """Generate passages after each source, all at once; each passage's text is the source of the next.

    A model of windows goes on from the text so far: a causal one from all of it, a JEPALM from as much as it
    reads.

    Args:
        trained: the model.
        sources: what to go on from; the same one several times gives several samples.
        action: tokens of the action on each, for a model that reads actions; it makes one passage.
        passages: passages to write, one after another.
        length_candidates: JEPALM only: likeliest lengths to try, of which the surest text is kept.
        length: tokens of a passage. A causal model may write any number; it takes the context's length
            when None, and ends a passage sooner where it was trained on ends. A JEPALM of windows takes as
            many passages as a greater length needs.
        temperature: 0 takes the most likely token; above, tokens are drawn.
        top_k: causal models only: draw from this many most likely tokens.
        top_p: causal models only: draw from the most likely tokens that together reach this chance.
        seed: of the draws.
        refining: JEPALM only: write each passage in several passes.
        keep: JEPALM of windows only, with a length: how much of each passage stays (`rolling.roll`).
        discard: JEPALM of windows only: share of each passage but the last, its end, that is thrown away.

    Raises:
        UsageError: the model reads actions and there is none, the length is outside 1 to the model's longest
            target, there are length candidates although the length is given or the model has no length
            head, or a setting does nothing here.
    """
    if length_candidates > 1 and length is not None:
        raise UsageError("length candidates do not go with a length", "leave --length out")
    if length_candidates > 1 and trained.config.objective.length.kind == "none":
        raise UsageError("this model has no length head to take candidates from", "give --length instead")
    if trained.reads_actions and action is None:
        hint = 'give one with --action, such as --action "open the door"'
        raise UsageError(f"{trained.run.name} predicts what an action makes of a state", hint)
    if refining is not None:
        check_refining(trained)
    rolling = trained.pairing == "windows" and trained.config.model.family == "jepalm"
    if discard and not rolling:
        message = "only a JEPALM of windows can discard the end of a passage"
        raise UsageError(message, "leave --discard out")
    if keep is not None and not (rolling and length):
        message = "only a JEPALM of windows keeps a part of its passages, for a text of a given length"
        raise UsageError(message, "give --length, or leave --keep out")
    objective = trained.objective
    if isinstance(objective, CausalObjective):
        if length_candidates > 1:
            raise UsageError("length candidates go with a JEPALM", "this one writes token by token")
        return _continue_causal(
            trained,
            objective,
            [source.ids for source in sources],
            action,
            passages,
            length,
            Sampling(temperature, top_k, top_p),
            seed,
        )
    assert isinstance(objective, JepalmObjective)
    if top_k is not None or top_p is not None:
        raise UsageError("top-k and top-p go with a causal model", "this one draws all positions at once")
    longest = trained.config.model.target_len
    if rolling and length is not None and (length > longest or keep is not None):
        if passages > 1:
            message = f"{length} tokens take as many passages as they need"
            raise UsageError(message, "leave --passages out, or the length")
        return _roll(trained, objective, sources, length, keep, temperature, seed, refining)
    if length is not None and not 1 <= length <= longest:
        raise UsageError(
            f"length {length} is out of range", f"this model writes 1 to {longest} tokens a pass"
        )
    device = trained.hardware.device
    generator = torch.Generator(device).manual_seed(seed)
    read = [source.ids for source in sources]
    text, made = [""] * len(read), []
    for number in range(passages):
        with trained.hardware.autocast():
            passage = one_shot.generate(
                objective,
                pad_rows(read, device),
                action=None if action is None else pad_rows([action] * len(read), device),
                length=length,
                length_candidates=length_candidates,
                temperature=temperature,
                generator=generator,
                writing=refining,
            )
        last = number == passages - 1
        rows = passage.rows() if last else [_kept(row, discard) for row in passage.rows()]
        written = [trained.tokenizer.decode(row) for row in rows]
        text = [before + after for before, after in zip(text, written, strict=True)]
        read = [next_source(trained, *pair) for pair in zip(read, written, strict=True)]
        made.append(passage)
    return Generated(text, sum(passage.passes for passage in made), made)


def _roll(
    trained: TrainedModel,
    objective: JepalmObjective,
    sources: Sequence[Source],
    length: int,
    keep: float | None,
    temperature: float,
    seed: int,
    refining: Refining | None,
) -> Generated:
    """A text of any length of a model of windows after each source."""
    longest, device = trained.config.model.target_len, trained.hardware.device
    if keep is not None and keep >= longest:
        message = f"{trained.run.name} writes {longest} tokens a passage: {keep:g} is all of them"
        raise UsageError(message, "keep fewer, or leave --keep out")
    rolled = roll(
        objective,
        trained.hardware,
        [source.ids for source in sources],
        length=length,
        keep=keep,
        temperature=temperature,
        generator=torch.Generator(device).manual_seed(seed),
        noise=noise_of(objective, trained.hardware, temperature, seed),
        refining=refining,
    )
    return Generated(list(map(trained.tokenizer.decode, rolled.rows)), rolled.passes, rolled.passages)


def check_refining(trained: TrainedModel) -> None:
    """Check that the predictor reads tokens that are already decided.

    Raises:
        UsageError: it does not.
    """
    if not trained.config.model.predictor.unmasked:
        message = f"{trained.run.name} cannot refine: it was trained without unmasked positions"
        raise UsageError(message, "train a JEPALM with model.predictor.unmasked=true")


def _kept(row: list[int], discard: float) -> list[int]:
    """A passage without the share at its end that is thrown away; one token at least stays."""
    return row[: max(1, len(row) - int(discard * len(row)))]


def _continue_causal(
    trained: TrainedModel,
    objective: CausalObjective,
    read: list[list[int]],
    action: list[int] | None,
    passages: int,
    length: int | None,
    sampling: Sampling,
    seed: int,
) -> Generated:
    device = trained.hardware.device
    noise = Noise(seed, trained.tokenizer.vocab_size, device) if sampling.temperature else None
    endless = trained.pairing == "windows"
    model = trained.config.model
    length = length or (model.causal.context_len if endless else model.target_len)
    given = [] if action is None else [action]
    text, passes = [""] * len(read), 0
    for number in range(passages):
        with trained.hardware.autocast():
            made = autoregressive.generate(
                objective,
                pad_rows(read if endless else [prompt_row(row, *given) for row in read], device),
                length=length,
                end=None if endless else TextTokenizer.END,
                sampling=sampling,
                noise=noise,
                written=number * length,
            )
        written = [trained.tokenizer.decode(row) for row in made.rows]
        text = [before + after for before, after in zip(text, written, strict=True)]
        if endless:
            read = [before + after for before, after in zip(read, made.rows, strict=True)]
        else:
            read = [read_prompt_again(trained, after) for after in written]
        passes += made.passes
    return Generated(text, passes, [])


def longest_source(trained: TrainedModel) -> int:
    """Most tokens of a prompt that the model reads."""
    model = trained.config.model
    endless = model.family == "causal" and trained.pairing == "windows"
    return model.causal.context_len if endless else model.source_len


def read_prompt_again(trained: TrainedModel, text: str) -> list[int]:
    """Source tokens of a generated passage; one that decodes to nothing is read as a blank."""
    if trained.pairing == "lines":
        return read_prompt(trained, text).ids
    ids = trained.tokenizer.encode(text or " ")
    return ids[-longest_source(trained) :]


def next_source(trained: TrainedModel, read: list[int], text: str) -> list[int]:
    """Source tokens after a passage that was written from others; of windows the last of both together."""
    if trained.pairing != "windows":
        return read_prompt_again(trained, text)
    return read_prompt_again(trained, trained.tokenizer.decode(read) + text)
