"""`jepalm prepare cmudict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jepalm.cli.prepare.options import (
    Alphabet,
    DataDirOption,
    ForceOption,
    NameOption,
    SplitBy,
    SplitOption,
    TokenizerOption,
    asked_for,
    request_of,
)
from jepalm.cli.prepare.output import progress_shown, show

SYMBOLS = "whitespace:328"
"""The 69 phonemes of the CMU dictionary, each with its stress, beside 256 bytes and 3 specials."""


def cmudict(
    given: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Another dictionary of the same form, read instead."),
    ] = None,
    name: NameOption = None,
    tokenizer: TokenizerOption = SYMBOLS,
    split: SplitOption = "90/5/5",
    data_dir: DataDirOption = None,
    force: ForceOption = False,
) -> None:
    """The CMU Pronouncing Dictionary: words and their phonemes; no word is in two splits.

    Example: jepalm prepare cmudict
    """
    from jepalm.data.pairs.cmudict import find_dictionary
    from jepalm.data.pairs.preparing import prepare_pairs

    request = request_of("pairs", tokenizer, Alphabet.fixed, split, "g2p", SplitBy.source)
    asked = asked_for(name or "cmudict", request, data_dir, force)
    found = find_dictionary(given)
    with progress_shown() as watch:
        job = asked.job("cmudict", found.origin, found.licence, watch)
        outcome = prepare_pairs(job, found.rows)
    show(outcome)
