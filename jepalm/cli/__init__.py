"""The commands: parse, call, show. Nothing heavy is imported until a command runs."""

from __future__ import annotations

import errno
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

import jepalm
from jepalm.cli.streams import print_anywhere
from jepalm.errors import DamageWarning, JepalmError, Stopped
from jepalm.sweep.commands import stop_with_sweep
from jepalm.training.signals import handled_by

DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}

HELP = """Train, sample and dissect non-autoregressive JEPA language models.

\b
  jepalm prepare shakespeare        make training data
  jepalm train --epochs 10          train a model on it
  jepalm generate "To be"           write the next passage in one pass
  jepalm report runs/latest         which loss really trained the model?
"""

COMMANDS = {
    "prepare": "Make training data from a corpus, text or pairs.",
    "train": "Train a model.",
    "generate": "Write the next passage in one pass.",
    "report": "Show what a run did, and write a page with its plots.",
    "evaluate": "Measure a run on held-out prompts, beside its controls.",
    "infill": "Fill the gaps of a text in one pass.",
    "plan": "Search the actions that lead nearest to a goal.",
    "sweep": "Train rows of changed settings under several seeds.",
    "runs": "List the runs, the newest first.",
    "presets": "List the presets: size, data, time here, and who wants it.",
    "bench": "Measure how fast a run writes and trains.",
    "export": "Write a model as a folder to keep or to publish.",
    "doctor": "Check this machine, the prepared data and, if named, a run.",
}
"""What each does, in the order a newcomer needs them; the file of a command has its name."""


class LazyGroup(TyperGroup):
    """Imports a command's file when the command is asked for; the list of commands imports none."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        names: dict[str, Any] = dict.fromkeys(COMMANDS)
        self.commands = names  # what a wrong name is compared with

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name, or None."""
        if cmd_name not in COMMANDS:
            return None
        file = import_module(f"{__name__}.{cmd_name}")
        if cmd_name == "prepare":
            return get_group(file.prepare_app)
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command()(getattr(file, cmd_name))
        return get_command(alone)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the names and what each does."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(
    cls=LazyGroup,
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"jepalm {jepalm.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; faults of the user's or the machine's end in one line."""
    print_anywhere()
    stop_with_sweep()
    try:
        with _stopped_by_signals(), _damage_on_stderr():
            app()
    except JepalmError as error:
        _fail(str(error), error.exit_code, "" if error.exit_code > 128 else "error: ")
    except Stopped as stopped:
        _fail("stopped (the same command begins again)", stopped.exit_code, "")
    except KeyboardInterrupt:
        _fail("stopped", 130, "")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{os.strerror(error.errno)} (free space or change the folder)", 1, "error: ")
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _fail("not enough memory (take a smaller model or batch)", 1, "error: ")


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGINT and SIGTERM unwind the command, the second one ends the process at once.

    Training and sweeps have handlers of their own inside this.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    process = os.getpid()
    came = False

    def stop(number: int, frame: object) -> None:
        nonlocal came
        if came or os.getpid() != process:  # the second: a process that a library forked
            os._exit(128 + number)
        came = True
        raise Stopped(number)

    with handled_by(stop):
        yield


@contextmanager
def _damage_on_stderr() -> Iterator[None]:
    """Show what is broken on disk, and what is used in its place, as a line."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", DamageWarning)
        before = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
            if issubclass(category, DamageWarning):
                from jepalm.cli.console import complain

                complain(f"warning: {message}")
            else:
                before(message, category, *place, **options)

        warnings.showwarning = show
        yield


def _is_out_of_memory(error: BaseException) -> bool:
    said = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in said)


def _fail(message: str, code: int, prefix: str) -> None:
    """One line on the standard error, and the exit code."""
    from jepalm.cli.console import complain

    complain(prefix + message)
    sys.exit(code)
