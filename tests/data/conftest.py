import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jepalm.data.job import Job, Outcome
from jepalm.data.pairs.preparing import prepare_pairs
from jepalm.data.pairs.reading import PairFiles
from jepalm.data.prepared import Origin, PreparedData, Request
from jepalm.data.text.preparing import prepare_text
from jepalm.data.text.reading import RawText

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ORIGIN = Origin(source="given text", where=["text.txt"])


@pytest.fixture
def numbered() -> str:
    """200 lines of different lengths, each saying its own number."""
    return "".join(f"{number} {'x' * (number % 7)}\n" for number in range(200))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Outcome]:
    def build(
        text: str | bytes, name: str = "mine", *, corpus: str = "text", force: bool = False, **request: object
    ) -> Outcome:
        content = text.encode() if isinstance(text, str) else text
        asked = Request.model_validate({"pairing": "lines", "tokenizer": "char", **request})
        job = Job(tmp_path / "data", name, corpus, ORIGIN, "none", asked, force)
        return prepare_text(job, RawText(content=content))

    return build


@pytest.fixture
def make_rows(tmp_path: Path) -> Callable[..., PreparedData]:
    def build(lines: list[str], skip_bad: bool = False, **request: object) -> PreparedData:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        asked = Request.model_validate({"pairing": "pairs", "tokenizer": "char", **request})
        job = Job(tmp_path / "data", "rows", "pairs", ORIGIN, "none", asked)
        return prepare_pairs(job, PairFiles(path, skip_bad)).data

    return build
