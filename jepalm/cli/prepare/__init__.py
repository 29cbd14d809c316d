"""`jepalm prepare`: text, datasets or pairs in, prepared data out."""

from __future__ import annotations

import typer

from jepalm.cli.prepare.cmudict import cmudict
from jepalm.cli.prepare.datasets import WithKnownDatasets, dataset
from jepalm.cli.prepare.pairs import nl_rx, pairs
from jepalm.cli.prepare.text import shakespeare, text
from jepalm.cli.prepare.transitions import transitions

prepare_app = typer.Typer(
    cls=WithKnownDatasets,
    help="Make training data from a corpus, text or pairs.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
prepare_app.command()(shakespeare)
prepare_app.command()(text)
prepare_app.command()(pairs)
prepare_app.command("nl-rx")(nl_rx)
prepare_app.command()(cmudict)
prepare_app.command()(transitions)
prepare_app.command()(dataset)
