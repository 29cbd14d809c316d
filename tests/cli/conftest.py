import contextlib
import io
import os
import sys
from unittest import mock

import pytest

import jepalm.cli
from jepalm.cli.console import console

TINY = (
    "--batch-size=4",
    "--steps=4",
    "model.dim=16",
    "model.encoder.n_layers=1",
    "model.predictor.n_layers=1",
    "model.decoder.n_layers=1",
    "training.steps_per_epoch=2",
    "training.validate_every=2",
    "training.validation_batches=1",
    "hardware.threads=1",
)
"""Settings under which a training takes a second."""


def run_command(*arguments, cwd, stdin=b"", **env):
    """Run the command line in this process as the shell would: (exit code, stdout, stderr).

    The console reads COLUMNS when it is made, which may be long before.
    """
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        mock.patch.object(sys, "argv", ["jepalm", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        mock.patch.dict(os.environ, env),
        mock.patch.object(console, "_width", int(env["COLUMNS"]) if "COLUMNS" in env else None),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            jepalm.cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="session")
def jepalm_command():
    """The command line as a function."""
    return run_command


@pytest.fixture(scope="session")
def tiny():
    """Settings under which a training takes a second."""
    return TINY
