"""Documents to token ids, block by block, in several processes; any number of them gives the same.

A document stays whole. Where a split is taken from the training documents, a document's text alone
decides whether it goes there, so that the same text never lies in two.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from jepalm.data.hub import Document, Position
from jepalm.data.prepared import SplitName
from jepalm.data.reading import CharacterCounter, code_points
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import JepalmError

BLOCK_CHARACTERS = 1 << 20
_AHEAD = 2  # blocks a process that wait for it

Shares = dict[SplitName, float]
"""Part of the training documents that goes to another split, 0 to 1."""


@dataclass(frozen=True)
class Block:
    """Neighbouring documents of one split of the dataset."""

    split: SplitName
    documents: list[str]
    after: Position | None
    """Where to read on; None at the end."""


@dataclass
class EncodedSplit:
    """What a block holds for one split."""

    ids: NDArray[np.int32]  # (T,)
    documents: int


@dataclass
class EncodedBlock:
    """A block's tokens and counts."""

    splits: dict[SplitName, EncodedSplit] = field(default_factory=dict)
    characters: int = 0
    lines: int = 0
    frequency: dict[str, int] = field(default_factory=dict)


def blocks(documents: Iterable[Document], characters: int) -> Iterator[Block]:
    """Join documents to blocks of at least so many characters, or to the end of their split."""
    pending: list[Document] = []
    size = 0
    for document in documents:
        if pending and (size >= characters or document.split != pending[-1].split):
            yield _block(pending)
            pending, size = [], 0
        pending.append(document)
        size += len(document.text)
    if pending:
        yield _block(pending)


def _block(documents: list[Document]) -> Block:
    last = documents[-1]
    return Block(last.split, [document.text for document in documents], last.after)


def split_of(document: str, shares: Shares) -> SplitName:
    """The split of a training document, drawn by its text."""
    if not shares:
        return "train"
    drawn = int.from_bytes(hashlib.blake2b(document.encode(), digest_size=8).digest()) / 2**64
    for name, share in shares.items():
        if drawn < share:
            return name
        drawn -= share
    return "train"


def encode_block(tokenizer: TextTokenizer, block: Block, shares: Shares) -> EncodedBlock:
    """Tokens of a block's documents, each closed by the end token, and what occurs in them."""
    encoded = EncodedBlock()
    ids: dict[SplitName, list[NDArray[np.int32]]] = {}
    end = np.array([TextTokenizer.END], dtype=np.int32)
    for document in block.documents:
        name = split_of(document, shares) if block.split == "train" else block.split
        ids.setdefault(name, []).extend((tokenizer.encode_flat(document), end))
    for name, parts in ids.items():
        encoded.splits[name] = EncodedSplit(np.concatenate(parts), len(parts) // 2)
    codes = code_points("".join(block.documents))
    counter = CharacterCounter()
    counter.add(codes)
    encoded.characters = len(codes)
    encoded.frequency = counter.frequency()
    encoded.lines = encoded.frequency.get("\n", 0)
    return encoded


Encode = Callable[[Iterable[Block]], Generator[tuple[Block, EncodedBlock]]]


@contextmanager
def encoder(tokenizer: TextTokenizer, shares: Shares, processes: int) -> Iterator[Encode]:
    """Give a function that encodes blocks in their order; one process is this one.

    Raises:
        JepalmError: a process was killed.
    """
    if processes == 1:
        yield lambda given: ((block, encode_block(tokenizer, block, shares)) for block in given)
        return
    pool = ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),  # the reader has threads, which a fork would break
        _begin,
        (tokenizer.to_json(), tokenizer.name, shares),
    )

    def encode(given: Iterable[Block]) -> Generator[tuple[Block, EncodedBlock]]:
        waiting: deque[tuple[Block, Future[EncodedBlock]]] = deque()
        for block in given:
            waiting.append((block, pool.submit(_encode, block)))
            if len(waiting) > _AHEAD * processes:
                yield waiting[0][0], waiting.popleft()[1].result()
        while waiting:
            yield waiting[0][0], waiting.popleft()[1].result()

    try:
        yield encode
    except BrokenProcessPool:
        raise JepalmError(
            "a process that made tokens was killed, perhaps for want of memory", "try fewer --processes"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_begun: tuple[TextTokenizer, Shares] | None = None


def _begin(tokenizer: str, name: str, shares: Shares) -> None:
    """Make a process ready: one thread, deaf to Ctrl-C, gone when its parent is."""
    global _begun
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _begun = TextTokenizer(Tokenizer.from_str(tokenizer), name), shares


def _encode(block: Block) -> EncodedBlock:
    assert _begun is not None
    tokenizer, shares = _begun
    return encode_block(tokenizer, block, shares)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
