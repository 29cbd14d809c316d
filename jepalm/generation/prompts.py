"""Text to the token ids that a model reads, in the form of its training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jepalm.errors import UsageError
from jepalm.generation.loading import TrainedModel
from jepalm.numbers import are, counted
from jepalm.shell import command, named_run

_WORDS_SHOWN = 3


@dataclass(frozen=True)
class ReadPrompt:
    """A prompt as the model reads it.

    Attributes:
        ids: its tokens.
        notes: for the user, on what was left out.
        cut: tokens left out at its beginning.
    """

    ids: list[int]
    notes: list[str]
    cut: int = 0


def read_prompt(trained: TrainedModel, prompt: str) -> ReadPrompt:
    """Turn a prompt into source tokens in the form of the training data.

    A model of lines reads the prompt's last line with its line end, and an empty prompt as a blank
    line; other models need a prompt. A prompt longer than the source keeps its last tokens.

    Raises:
        UsageError: the model fills gaps instead, the prompt is empty where it may not be, or has characters
            outside the alphabet.
    """
    if trained.pairing == "spans":
        message = f"{trained.run.name} fills gaps in a text and does not continue one"
        raise UsageError(message, f"give it gaps: {infilling(trained, prompt)}")
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
    cut = max(0, len(ids) - longest)
    if cut:
        notes.append(cut_note("prompt", len(ids), longest))
    return ReadPrompt(ids[-longest:], notes, cut)


def cut_note(what: str, tokens: int, longest: int) -> str:
    """What is said of a text that is longer than the model reads."""
    read, cut = f"the model reads the last {longest:,}", tokens - longest
    return f"the {what} has {counted(tokens, 'token')}: {read}, the first {cut:,} {are(cut)} cut"


def infilling(trained: TrainedModel, text: str) -> str:
    """The command that fills a gap behind the first words of a text."""
    words = text.replace("_", " ").split()[:_WORDS_SHOWN]
    return command("infill", " ".join([*(words or ["TEXT"]), "____"]), run=named_run(trained.run))


def read_prompts(trained: TrainedModel, lines: Sequence[str]) -> list[ReadPrompt]:
    """Read many prompts, each as `read_prompt` does.

    Raises:
        UsageError: there are none, or one cannot be read; names its number.
    """
    if not lines:
        raise UsageError("there are no prompts", "give one a line")
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(read_prompt(trained, line))
        except UsageError as error:
            raise UsageError(f"prompt {number}: {error.message}", error.hint) from None
    return found


def read_action(trained: TrainedModel, action: str | None) -> list[int] | None:
    """Turn an action into the tokens that the model reads, the last `action_len` of them; None for no action.

    Raises:
        UsageError: the model reads no action or needs one, it is empty, or has characters outside the
            alphabet.
    """
    if action is None:
        if trained.reads_actions:
            hint = 'give one with --action, such as --action "open the door"'
            raise UsageError(f"{trained.run.name} predicts what an action makes of a state", hint)
        return None
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


def longest_source(trained: TrainedModel) -> int:
    """Most tokens of a prompt that the model reads."""
    model = trained.config.model
    return (
        model.causal.context_len if trained.is_causal and trained.pairing == "windows" else model.source_len
    )


def next_source(trained: TrainedModel, source: list[int], written: list[int]) -> list[int]:
    """Source tokens after a passage was written: of windows both together, else what was written as a text.

    A passage that decodes to nothing is read as a blank.
    """
    if trained.pairing == "windows":
        return [*source, *written]
    text = trained.tokenizer.decode(written)
    if trained.pairing == "lines":
        return read_prompt(trained, text).ids
    return trained.tokenizer.encode(text or " ")[-longest_source(trained) :]
