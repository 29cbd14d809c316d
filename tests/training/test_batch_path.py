"""The path of one reference batch: which files of the package it enters, from its tokens to the optimizer."""

import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from torch.optim import AdamW

import jepalm
from jepalm.data.batches import Batches

PACKAGE = Path(jepalm.__file__).parent
PAGE = PACKAGE.parent / "docs" / "architecture.md"
STEP = 4
"""Neither the first, in which parts are built once, nor a log point."""


@pytest.fixture(scope="module")
def entered(tmp_path_factory: pytest.TempPathFactory, train_tiny: Any) -> list[str]:
    """Files in the order in which a training step first calls something in them."""
    files: dict[str, None] = {"training/trainer.py": None}

    def note(frame: FrameType, event: str, given: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            files.setdefault(path.relative_to(PACKAGE).as_posix())

    at, step = Batches.at, AdamW.step

    def watched_at(batches: Batches, number: int) -> Any:
        if number == STEP:
            sys.setprofile(note)
        return at(batches, number)

    def watched_step(optimizer: AdamW, *given: Any) -> Any:
        sys.setprofile(None)
        return step(optimizer, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batches, "at", watched_at)
        patch.setattr(AdamW, "step", watched_step)
        train_tiny(tmp_path_factory.mktemp("runs"), training__log_every=8)
    sys.setprofile(None)
    return list(files)


def test_a_batch_enters_at_most_twelve_files(entered):
    assert 8 < len(entered) <= 12, entered


def test_the_page_names_the_files_that_a_batch_enters(entered):
    rows = re.findall(r"^\| \d+ \| `jepalm/([\w/.]+)`", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert rows == entered
