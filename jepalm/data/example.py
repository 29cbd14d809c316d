"""A short text of prepared data, for the commands that are shown: held out, and of its own alphabet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from jepalm.data.prepared import PreparedData, Split
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import JepalmError

WELL_KNOWN = "To be"
"""The prompt for Tiny Shakespeare."""
WELL_KNOWN_GAP = "To be, or ____ to be"
_LOOKED_AT = 50
"""Pairs among which a short one is looked for."""
_LONGEST = 60
"""Characters of a source that is shown whole."""
_LONGEST_STATE = 160
"""The same of a state and its action."""
_TOKENS_LOOKED_AT = 400
_CUT = 24
"""Characters of a longer text."""


@dataclass(frozen=True)
class Example:
    """What a model may be asked: a text, with a gap where the data has hidden spans, and maybe an action."""

    text: str
    action: str | None = None


def example_of(data: PreparedData) -> Example:
    """An example from the test split; of a damaged one, and where no text will do, the well-known one."""
    tokenizer, meta = data.tokenizer, data.meta
    well_known = WELL_KNOWN_GAP if meta.pairing == "spans" else WELL_KNOWN
    if meta.corpus == "shakespeare" and not tokenizer.unknown_characters(well_known):
        return Example(well_known)
    try:
        found = next(_examples(data.split("test"), tokenizer), None)
    except JepalmError:
        found = None
    return found or Example(well_known)


def _examples(split: Split, tokenizer: TextTokenizer) -> Iterator[Example]:
    if split.pairing in ("windows", "spans"):
        ids = split.tokens(0, min(split.n_tokens, _TOKENS_LOOKED_AT)).tolist()
        lines = tokenizer.decode(ids).split("\n")
        for line in lines[1:-1] or lines:  # the first and the last may be cut
            text = _beginning(line)
            if not _readable(text, tokenizer):
                continue
            text = with_gap(text, tokenizer) if split.pairing == "spans" else text
            if text:
                yield Example(text)
        return
    longest = _LONGEST_STATE if split.has_action else _LONGEST
    long: list[Example] = []
    for place in range(min(split.n_pairs, _LOOKED_AT)):
        text = tokenizer.decode(split.ids("source", place)).removesuffix("\n")
        if not text.strip() or not _readable(text, tokenizer):
            continue
        if split.has_action:
            example = Example(text, tokenizer.decode(split.ids("action", place)))
        else:
            example = Example(text if len(text) <= longest else _beginning(text))
        if len(text) <= longest:
            yield example
        else:
            long.append(example)
    yield from long


def with_gap(text: str, tokenizer: TextTokenizer) -> str:
    """A text with an underscore for each token of one of its words; empty where no short word is inside."""
    words = list(re.finditer(r"(?<=\s)\w{2,8}(?=\W)", text))
    if not words or "_" in text:
        return ""
    word = words[len(words) // 2]
    gap = "_" * len(tokenizer.encode(word[0]))
    return text[: word.start()] + gap + text[word.end() :]


def _beginning(text: str) -> str:
    """The first words of a text's first line; the whole of a short one."""
    line = text.strip().split("\n")[0].strip()
    if len(line) <= _LONGEST // 2:
        return line
    return line[:_CUT].rsplit(" ", 1)[0].strip()


def _readable(text: str, tokenizer: TextTokenizer) -> bool:
    """Whether a tokenizer takes a text as it is, and a line of a terminal shows it."""
    return (
        not tokenizer.unknown_characters(text)
        and "\ufffd" not in text
        and text.replace("\n", "").isprintable()
    )
