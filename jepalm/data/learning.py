"""The tokenizer of a request: built from its alphabet, learned from a sample, or a model's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from jepalm.data.backbone_tokenizer import load_backbone_tokenizer
from jepalm.data.prepared import Request
from jepalm.data.tokenizer import (
    FIXED_ALPHABET,
    TextTokenizer,
    bpe_tokenizer,
    byte_tokenizer,
    char_tokenizer,
    parse_tokenizer,
    whitespace_tokenizer,
    with_mask,
    word_tokenizer,
)

LEARNING_SAMPLE = 1 << 24
"""Characters of the training text from which byte pairs or words are learned."""


def build_tokenizer(
    request: Request, frequency: dict[str, int], training_text: Callable[[], Iterator[str]]
) -> TextTokenizer:
    """The tokenizer that was asked for.

    Args:
        request: names its kind, size and alphabet.
        frequency: the characters that occur, for an alphabet made of them.
        training_text: called for byte pairs and words alone, which are learned from it.
    """
    kind, size = parse_tokenizer(request.tokenizer)
    if kind == "bpe":
        built = bpe_tokenizer(size, training_text())
    elif kind == "word":
        built = word_tokenizer(size, training_text())
    elif kind == "whitespace":
        built = whitespace_tokenizer(size, training_text())
    elif kind == "byte":
        built = byte_tokenizer()
    elif kind == "backbone":
        built = load_backbone_tokenizer(request.tokenizer).text
    else:
        built = char_tokenizer(sorted(frequency) if request.alphabet == "data" else FIXED_ALPHABET)
    return with_mask(built) if request.pairing == "spans" else built


def evenly_drawn(texts: Iterator[str], expected: int) -> Iterator[str]:
    """Pieces spread evenly over the texts, about `LEARNING_SAMPLE` characters in all."""
    share = min(1.0, LEARNING_SAMPLE / max(1, expected))
    seen = taken = 0
    for text in texts:
        for at in range(0, len(text), 1 << 16):
            piece = text[at : at + (1 << 16)]
            seen += len(piece)
            if taken < share * seen:
                taken += len(piece)
                yield piece
