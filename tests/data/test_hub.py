"""Opening a dataset: what it is, and what is said where it cannot be opened."""

import sys
from pathlib import Path

import pytest
from parquet_files import write_parquet

from jepalm.data.hub import Corpus, open_hub
from jepalm.errors import JepalmError, UsageError

TEXTS = [f"document {k} says ä\nand ends with {k * k}" for k in range(20)]

pytestmark = pytest.mark.usefixtures("no_hub")


def test_the_size_of_the_text_is_told_beforehand(tmp_path: Path):
    texts = [text * 200 for text in TEXTS[:7]]
    write_parquet(tmp_path / "long", "part", texts)
    text = open_hub(Corpus(str(tmp_path / "long")))
    assert text.n_bytes == pytest.approx(len("".join(texts).encode()), rel=0.05)


def open_refused(corpus: Corpus, error: type[JepalmError] = UsageError) -> str:
    with pytest.raises(error) as caught:
        open_hub(corpus)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_opened_is_one_clear_line(tmp_path: Path):
    write_parquet(tmp_path / "given", "part-0", TEXTS)
    (tmp_path / "empty").mkdir()
    write_parquet(tmp_path / "odd", "test-00000", TEXTS[:9])
    write_parquet(tmp_path / "numbers", "part", list(range(9)))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "part.parquet").write_bytes(b"PAR1 not really")
    given = str(tmp_path / "given")
    assert "has no column txt (did you mean text?)" in open_refused(Corpus(given, column="txt"))
    assert "has no column body (there are: number, text)" in open_refused(Corpus(given, column="body"))
    assert "holds no text" in open_refused(Corpus(given, column="number"))
    assert "is a file (give the folder it lies in)" in open_refused(Corpus(given + "/part-0.parquet"))
    assert "cannot read dataset" in open_refused(Corpus(str(tmp_path / "empty")))
    assert "cannot read dataset" in open_refused(Corpus(str(tmp_path / "nowhere")))
    assert "cannot read dataset" in open_refused(Corpus(str(tmp_path / "broken")))
    assert "has no split train (there are: test)" in open_refused(Corpus(str(tmp_path / "odd")))


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert open_refused(Corpus(str(tmp_path)), JepalmError).endswith("(pip install 'jepalm[hub]')")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ConnectionError("Couldn't reach 'a/b' on the Hub"), r"reach the hub for a/b: .*downloaded copy"),
        (RuntimeError("Dataset scripts are no longer supported, but found b.py"), r"by a script.*--revision"),
        (ValueError("BuilderConfig 'x' not found"), r"cannot read dataset a/b: BuilderConfig 'x' not found"),
    ],
)
def test_faults_of_the_hub_are_one_clear_line(error: Exception, why: str, monkeypatch: pytest.MonkeyPatch):
    import datasets

    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset_builder", fail)
    with pytest.raises(JepalmError, match=why):
        open_hub(Corpus("a/b"))
