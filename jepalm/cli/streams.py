"""stdout and stderr that can print any text, whatever their encoding."""

from __future__ import annotations

import codecs
import io
import sys

_IN_ASCII = {
    "·": "-",
    "–": "-",
    "—": "-",
    "−": "-",
    "…": "...",
    "±": "+/-",
    "×": "x",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "✓": "ok",
    "✔": "ok",
    "✘": "x",
    "²": "2",
    "’": "'",
    "⏎": "\\n",
    "␍": "\\r",
    "⇥": "\\t",
    **dict(zip("▁▂▃▄▅▆▇█", "_.:-=+*#", strict=True)),
}
"""What stands for the signs that the commands print where an encoding lacks them."""


def print_anywhere() -> None:
    """Let stdout and stderr replace what their encoding cannot show, whatever it is."""
    codecs.register_error("plainly", _plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plainly")


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Signs that the commands use in ASCII, a question mark for all else."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(character, "?") for character in found), error.end
