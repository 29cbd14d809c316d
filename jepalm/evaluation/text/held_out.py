"""What an evaluation reads of prepared data: held-out prompts with their continuations, and training text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jepalm.config import ModelConfig
from jepalm.data.batches import Batches
from jepalm.data.prepared import PreparedData, Split
from jepalm.errors import UsageError
from jepalm.numbers import counted

TRAINING_TOKENS = 4_000_000
"""Most tokens of training text that the 5-gram, the lexicon and the copies read."""


@dataclass(frozen=True)
class HeldOutPairs:
    """The prompts of an evaluation, their real continuations, and texts of the same kind from elsewhere.

    Attributes:
        pairs: (source, target) token ids, evenly spaced over the split.
        reference: targets of the pairs halfway between, as many.
    """

    pairs: list[tuple[list[int], list[int]]]
    reference: list[list[int]]


@dataclass(frozen=True)
class TrainingText:
    """The training text, or as much of it as is read.

    Attributes:
        ids: (T,) token ids of all documents in a row.
        starts: where each document begins; lines and windows are one document, pairs one each.
        text: the documents, decoded, one newline between two.
    """

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    text: str


def pick_pairs(split: Split, model: ModelConfig, n_prompts: int, length: int | None = None) -> HeldOutPairs:
    """Take pairs evenly spaced over a split, every second one as a prompt, the others as the reference.

    Targets have as many tokens as the model writes, or as `length` says where that is more.

    Raises:
        UsageError: the split has fewer than four pairs.
    """
    batches = Batches(
        split,
        batch_size=1,
        source_len=model.source_len,
        target_len=max(model.target_len, length or 0),
        seed=0,
        device="cpu",
    )
    n_prompts = min(n_prompts, batches.n_pairs // 2)
    if n_prompts < 2:
        message = f"the {split.name} split has {counted(batches.n_pairs, 'pair')}, too few to evaluate"
        raise UsageError(message, "prepare more text")
    pairs = [
        (batch.source.ids[0].tolist(), batch.target.ids[0].tolist()) for batch in batches.fixed(2 * n_prompts)
    ]
    return HeldOutPairs(pairs[::2], [target for _, target in pairs[1::2]])


def read_training_text(prepared: PreparedData, limit: int = TRAINING_TOKENS) -> TrainingText:
    """The first `limit` tokens of the train split, or as many whole pairs as begin in them."""
    split, tokenizer = prepared.split("train"), prepared.tokenizer
    if split.pairing != "pairs":
        ids = split.tokens(0, min(split.n_tokens, limit)).astype(np.int64)
        return TrainingText(ids, np.zeros(1, np.int64), tokenizer.decode(ids.tolist()))
    documents: list[list[int]] = []
    size = 0
    for index in range(split.n_pairs):
        source, target = split.pair(index)
        documents.append(source + target)
        size += len(documents[-1])
        if size >= limit:
            break
    ends = np.cumsum([len(document) for document in documents])
    ids = np.concatenate([np.array(document, np.int64) for document in documents])
    return TrainingText(ids, np.append(0, ends[:-1]), "\n".join(map(tokenizer.decode, documents)))
