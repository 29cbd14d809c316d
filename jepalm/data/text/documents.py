"""From a dataset's stream of documents to prepared data: read once, resumable, in memory that does not grow.

A document stays whole. Where a split is taken from the training documents, a document's text alone decides
whether it goes there, so that the same text never lies in two. Rust threads of the `tokenizers` library make
the tokens, on all cores (`RAYON_NUM_THREADS` says how many).
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from jepalm.data.hub import Corpus, OpenDataset
from jepalm.data.job import Job, Outcome, describe
from jepalm.data.learning import LEARNING_SAMPLE, build_tokenizer
from jepalm.data.prepared import SPLITS, SplitName, open_prepared
from jepalm.data.text.reading import CharacterCounter, code_points
from jepalm.data.text.resuming import PIECE_BYTES, Place, partial_folder
from jepalm.data.text.splitting import Shares, shares_of, split_of
from jepalm.data.tokenizer import parse_tokenizer
from jepalm.data.writing import SplitWriter
from jepalm.errors import UsageError

BATCH_CHARACTERS = 1 << 20
_FILES_SAMPLED = 64


@dataclass(frozen=True)
class DocumentBatch:
    """Neighbouring documents of one split of the dataset."""

    split: SplitName
    texts: list[str]
    after: Place | None
    """Where to read on; None at the end."""


def prepare_documents(job: Job, dataset: OpenDataset, piece_bytes: int = PIECE_BYTES) -> Outcome:
    """Prepare a dataset's documents for windows or spans, and go on where an earlier command stopped.

    Args:
        job: what to make; its request is for windows or spans.
        dataset: the documents.
        piece_bytes: text from one record of progress to the next.

    Raises:
        UsageError: the dataset cannot be read or has too few documents, or the folder is in the way.
        JepalmError: the network failed, too little room on the disk, or another process is at it.
        Interrupted: stopped; the same command goes on.
    """
    job.check()
    shares = shares_of(job.request, dataset.streams)
    with job.alone(), partial_folder(job, dataset.identity, _needed_bytes(job, dataset)) as folder:
        tokenizer = folder.tokenizer
        if tokenizer is None:
            tokenizer = build_tokenizer(job.request, {}, lambda: _sample(job, dataset, shares))
            folder.writer.write_tokenizer(tokenizer)
        writers = {name: SplitWriter(folder.writer, name, tokenizer) for name in SPLITS}
        place, counts = folder.take_up(writers)
        characters = CharacterCounter(counts.frequency)
        digest = hashlib.sha256(bytes.fromhex(counts.raw_sha256))
        recorded = counts.raw_bytes
        with closing(document_batches(dataset, place, BATCH_CHARACTERS)) as batches:
            for batch in batches:
                text = "".join(batch.texts)
                codes = code_points(text)
                characters.add(codes)
                counts.characters += len(codes)
                counts.lines += int(np.count_nonzero(codes == ord("\n")))
                counts.raw_bytes += len(text.encode())
                digest.update(text.encode())
                for name, texts in _by_split(batch, shares).items():
                    writers[name].stream(tokenizer.encode_documents(texts))
                    writers[name].documents += len(texts)
                if counts.raw_bytes - recorded >= piece_bytes:
                    # A SHA-256 cannot be written down half-way: the hash so far begins the next piece.
                    counts.raw_sha256, counts.frequency = digest.hexdigest(), characters.frequency()
                    digest = hashlib.sha256(bytes.fromhex(counts.raw_sha256))
                    folder.record(batch.after, counts, writers)
                    recorded = counts.raw_bytes
                job.watch("writing", counts.raw_bytes, dataset.n_bytes)
        for name, writer in writers.items():
            if not writer.documents:
                total = sum(writer.documents for writer in writers.values())
                raise UsageError(
                    f"no document fell to {name}: {total:,} are too few", "--split can give it a larger share"
                )
        counts.raw_sha256, counts.frequency = digest.hexdigest(), characters.frequency()
        folder.finish(describe(job, counts, tokenizer, folder.writer, writers))
    return job.outcome(open_prepared(job.path, job.root), True)


def document_batches(dataset: OpenDataset, place: Place | None, characters: int) -> Generator[DocumentBatch]:
    """Yield the documents from a place on, in batches of so many characters, or to the end of a split.

    Nothing from None, the end. A batch ends behind the first row of the document that follows.
    """
    names = list(dataset.streams)
    while place is not None:
        split, stream = place.split, dataset.streams[place.split]
        if place.state is not None:
            stream.load_state_dict(place.state)
        texts: list[str] = []
        size = 0
        for document, following in _grouped(dataset.corpus, dataset.rows(split), place.rows):
            if document:
                texts.append(document)
                size += len(document)
            if size >= characters and following is not None:
                yield DocumentBatch(split, texts, Place(split, stream.state_dict(), [following]))
                texts, size = [], 0
        left = names[names.index(split) + 1 :]
        place = Place(left[0]) if left else None
        if texts:
            yield DocumentBatch(split, texts, place)


def _grouped(
    corpus: Corpus, records: Iterator[dict[str, Any]], rows: Sequence[str] = ()
) -> Iterator[tuple[str, str | None]]:
    """Yield each document, maybe empty, and the row that was read behind it; None at the end.

    Args:
        corpus: how documents begin.
        records: rows of the dataset.
        rows: texts of the rows before them, of a document that is not at its end.
    """
    pending = list(rows)
    for record in records:
        row = corpus.text_of(record)
        if pending and (corpus.title is None or (corpus.title.fullmatch(row) and not pending[-1].strip())):
            yield "".join(pending), row
            pending = []
        pending.append(row)
    yield "".join(pending), None


def _by_split(batch: DocumentBatch, shares: Shares) -> dict[SplitName, list[str]]:
    found: dict[SplitName, list[str]] = {}
    for text in batch.texts:
        name = split_of(text, shares) if batch.split == "train" else batch.split
        found.setdefault(name, []).append(text)
    return found


def _sample(job: Job, dataset: OpenDataset, shares: Shares) -> Iterator[str]:
    """Training documents from the beginnings of files spread evenly over the dataset."""
    n_files = int(dataset.streams["train"].num_shards)
    n_sampled = min(n_files, _FILES_SAMPLED)
    taken = 0
    for number in range(n_sampled):
        wanted = LEARNING_SAMPLE * (number + 1) // n_sampled
        with closing(dataset.rows("train", file=number * n_files // n_sampled)) as records:
            for document, _ in _grouped(dataset.corpus, records):
                if taken >= wanted:
                    break
                if document and split_of(document, shares) == "train":
                    yield document[: wanted - taken]
                    taken += min(len(document), wanted - taken)
                    job.watch("learning", taken, LEARNING_SAMPLE)


def _needed_bytes(job: Job, dataset: OpenDataset) -> int:
    """Room for all tokens of two bytes; a byte pair stands for three bytes of text and more."""
    kind, _ = parse_tokenizer(job.request.tokenizer)
    return 2 * dataset.n_bytes // (3 if kind == "bpe" else 1)
