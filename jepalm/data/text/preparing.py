"""From raw text to prepared data: count once, then encode block by block.

Memory does not grow with the input: text is read in chunks, shards are bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from jepalm.data.job import Job, Outcome, counter, write_prepared
from jepalm.data.learning import build_tokenizer, evenly_drawn
from jepalm.data.prepared import SPLITS, SplitName
from jepalm.data.text.reading import RawText, count_text, whole_lines
from jepalm.data.text.splitting import line_blocks, segments, window_blocks
from jepalm.data.writing import SplitWriter


def prepare_text(job: Job, raw: RawText) -> Outcome:
    """Prepare a text for next-line pairs, windows or spans.

    Raises:
        UsageError: the text cannot be read or is too short, or the folder is in the way.
        JepalmError: too little room on the disk.
    """
    job.check()
    with job.alone():
        return _prepare(job, raw)


def _prepare(job: Job, raw: RawText) -> Outcome:
    counts = count_text(raw, counter(job.watch, "reading", raw.n_bytes))
    if present := job.present(counts.raw_sha256):
        return present
    by_line = job.request.pairing == "lines"
    blocks = line_blocks(counts, job.request) if by_line else window_blocks(counts, job.request)
    unit: Literal["lines", "characters"] = "lines" if by_line else "characters"

    def pieces(stage: str) -> Iterator[tuple[SplitName, str]]:
        chunks = raw.chunks(advance=counter(job.watch, stage, raw.n_bytes))
        return segments(whole_lines(chunks) if by_line else chunks, blocks, unit)

    def training_text() -> Iterator[str]:
        n_units = counts.lines if by_line else counts.characters
        expected = counts.characters * blocks[0][1] // max(1, n_units)
        return evenly_drawn((text for name, text in pieces("learning") if name == "train"), expected)

    tokenizer = build_tokenizer(job.request, counts.frequency, training_text)

    def fill(writers: dict[SplitName, SplitWriter]) -> None:
        for name, text in pieces("writing"):
            if by_line:
                writers[name].lines(*tokenizer.encode_lines(text))
            else:
                writers[name].stream(tokenizer.encode_flat(text))

    return write_prepared(job, counts, tokenizer, SPLITS, fill)
