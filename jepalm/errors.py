"""Errors for people: what is wrong, where, and what to do about it.

Everything a user can get wrong ends in one of these, and the command line shows it as one
line without a traceback. A traceback means a bug in jepalm.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class JepalmError(Exception):
    """A fault met while running (exit code 1).

    Args:
        message: what is wrong and where, one line.
        hint: what to do about it, one line; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = " ".join(message.split("\n"))  # a key from outside may hold a line end
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(JepalmError):
    """Bad input: a wrong key, value, file or folder (exit code 2)."""

    exit_code = 2


class Interrupted(JepalmError):
    """Stopped by a signal after everything was saved (exit code 128 + signal number)."""

    def __init__(self, message: str, hint: str = "", signal_number: int = 2) -> None:
        super().__init__(message, hint)
        self.exit_code = 128 + signal_number


class Stopped(BaseException):
    """SIGINT or SIGTERM outside of a training step: unwinds, so that temporary files are removed.

    No `KeyboardInterrupt`, which the command line's library would take for itself, and no `JepalmError`,
    which somebody might handle.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__("stopped")
        self.exit_code = 128 + signal_number


class DamageWarning(UserWarning):
    """Something on disk is broken and another was used in its place; the command line shows it as a line."""


def nearest(word: str, known: Iterable[str], alike: float = 0.5) -> str:
    """Return `did you mean X?` for the known name closest to `word`, if so much alike, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=alike)
    return f"did you mean {close[0]}?" if close else ""
