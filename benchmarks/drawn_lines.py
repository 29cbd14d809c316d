"""Lines of letters, as long as Shakespeare's, the same at every run: what step times are measured on."""

from __future__ import annotations

from pathlib import Path

import torch

from jepalm.config import Config
from jepalm.data.batches import Batches
from jepalm.data.job import Job
from jepalm.data.prepared import Origin, Request, open_prepared
from jepalm.data.text.preparing import prepare_text
from jepalm.data.text.reading import RawText

LINES = 4000


def drawn_lines() -> str:
    """Lines of 28 letters in the mean and 56 at most, three in ten short as between speeches."""
    draw = torch.Generator().manual_seed(0)
    short = torch.randint(0, 12, (LINES,), generator=draw)
    lengths = torch.where(
        torch.rand(LINES, generator=draw) < 0.3, short, torch.randint(20, 56, (LINES,), generator=draw)
    )
    letters = torch.randint(97, 123, (int(lengths.sum()),), generator=draw).tolist()
    text = iter(map(chr, letters))
    return "".join("".join(next(text) for _ in range(length)) + "\n" for length in lengths.tolist())


def line_batches(config: Config, folder: Path, device: torch.device, *, static: bool) -> Batches:
    """Batches of these lines, which are prepared in the folder where they are not there."""
    if not (folder / "lines").exists():
        request = Request(pairing="lines", tokenizer="char")
        job = Job(folder, "lines", "text", Origin(source="drawn", where=["here"]), "none", request)
        prepare_text(job, RawText(content=drawn_lines().encode()))
    return Batches(
        open_prepared("lines", folder).split("train"),
        batch_size=config.training.batch_size,
        source_len=config.model.source_len,
        target_len=config.model.target_len,
        seed=0,
        device=device,
        static_shapes=static,
    )
