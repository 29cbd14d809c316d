"""From a dataset's stream of documents to prepared data: one reading, resumable, in several processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

from jepalm.data.documents import BLOCK_CHARACTERS, Block, EncodedBlock, Shares, blocks, encoder, split_of
from jepalm.data.hub import HubText
from jepalm.data.job import Job, Outcome, check_request, describe, occupied
from jepalm.data.learning import LEARNING_SAMPLE, build_tokenizer
from jepalm.data.prepared import SPLITS, Meta, open_prepared
from jepalm.data.reading import TextCounts
from jepalm.data.resuming import PIECE_BYTES, PartialFolder, TextDigest, partial_folder
from jepalm.data.tokenizer import TextTokenizer, parse_tokenizer
from jepalm.data.writing import SplitWriter
from jepalm.errors import UsageError

_FILES_SAMPLED = 64


def prepare_stream(job: Job, text: HubText, processes: int = 1, piece_bytes: int = PIECE_BYTES) -> Outcome:
    """Prepare a dataset's documents for windows or spans, and go on where an earlier command stopped.

    Args:
        job: what to make; its request is for windows or spans.
        text: the dataset.
        processes: that make tokens; the result is the same for any number.
        piece_bytes: text from one record of progress to the next.

    Raises:
        UsageError: the dataset cannot be read or has too few documents, or the folder is in the way.
        JepalmError: the network failed, too little room on the disk, or another process is at it.
        Interrupted: stopped; the same command goes on.
    """
    started = time.perf_counter()
    check_request(job.name, job.request)
    occupied(job.root / job.name)
    shares = _shares(job, text)
    with partial_folder(job, text.identity, _needed_bytes(job, text)) as folder:
        tokenizer = folder.tokenizer
        if tokenizer is None:
            tokenizer = build_tokenizer(job.request, {}, lambda: _sample(job, text, shares))
            folder.writer.write_tokenizer(tokenizer)
        work = _Work(folder, tokenizer)
        with (
            closing(text.documents(folder.place)) as documents,
            encoder(tokenizer, shares, processes) as encode,
            closing(encode(blocks(documents, BLOCK_CHARACTERS))) as encoded_blocks,
        ):
            for block, encoded in encoded_blocks:
                work.add(block, encoded, piece_bytes)
                job.watch("writing", work.n_bytes, text.n_bytes)
        folder.finish(work.describe(job).model_dump_json(indent=2) + "\n")
    data = open_prepared(job.root / job.name, job.root)
    return Outcome(data, True, time.perf_counter() - started)


class _Work:
    """Counts, hash and writers, as an earlier command left them if there was one."""

    def __init__(self, folder: PartialFolder, tokenizer: TextTokenizer) -> None:
        self._folder = folder
        self._tokenizer = tokenizer
        self._counts = TextCounts()
        self._writers = {name: SplitWriter(folder.writer, name, tokenizer) for name in SPLITS}
        self._piece = 0
        if folder.progress is None:
            self._digest = TextDigest()
            folder.record(folder.place, "", self._counts, self._writers)
        else:
            folder.go_on(self._counts, self._writers)
            self._digest = TextDigest(folder.progress.digest)

    @property
    def n_bytes(self) -> int:
        """Bytes of text done."""
        return self._counts.raw_bytes

    def add(self, block: Block, encoded: EncodedBlock, piece_bytes: int) -> None:
        """Write a block's tokens, and at the end of a piece how far the work is."""
        content = "".join(block.documents).encode()
        self._digest.add(content)
        self._piece += len(content)
        counts = self._counts
        counts.raw_bytes += len(content)
        counts.characters += encoded.characters
        counts.lines += encoded.lines
        for symbol, count in encoded.frequency.items():
            counts.frequency[symbol] = counts.frequency.get(symbol, 0) + count
        for name, part in encoded.splits.items():
            self._writers[name].stream(part.ids)
            self._writers[name].documents += part.documents
        if self._piece >= piece_bytes:
            self._folder.record(block.after, self._digest.end_piece(), counts, self._writers)
            self._piece = 0

    def describe(self, job: Job) -> Meta:
        """Write the last shards and describe the whole.

        Raises:
            UsageError: a split got no document.
        """
        for name, writer in self._writers.items():
            if not writer.documents:
                total = sum(writer.documents for writer in self._writers.values())
                raise UsageError(
                    f"no document fell to {name}: {total:,} are too few", "--split can give it a larger share"
                )
        self._counts.raw_sha256 = self._digest.hexdigest()
        return describe(job, self._counts, self._tokenizer, self._folder.writer, self._writers)


def _shares(job: Job, text: HubText) -> Shares:
    """Part of the training documents for each split that the dataset lacks."""
    percent = dict(zip(SPLITS, job.request.split, strict=True))
    return {name: percent[name] / 100 for name in SPLITS if name not in text.parts}


def _sample(job: Job, text: HubText, shares: Shares) -> Iterator[str]:
    """Training documents from the beginnings of files spread evenly over the dataset."""
    files = min(text.n_files, _FILES_SAMPLED)
    taken = 0
    for file in range(files):
        wanted = LEARNING_SAMPLE * (file + 1) // files
        with closing(text.beginning(file * text.n_files // files)) as documents:
            for document in documents:
                if taken >= wanted:
                    break
                if split_of(document, shares) == "train":
                    yield document[: wanted - taken]
                    taken += min(len(document), wanted - taken)
                    job.watch("learning", taken, LEARNING_SAMPLE)


def _needed_bytes(job: Job, text: HubText) -> int:
    """Room for all tokens of two bytes; a byte pair stands for three bytes of text and more."""
    kind, _ = parse_tokenizer(job.request.tokenizer)
    return 2 * text.n_bytes // (3 if kind == "bpe" else 1)
