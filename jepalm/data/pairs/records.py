"""One pair of texts, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jepalm.errors import UsageError


@dataclass(frozen=True)
class PairRecord:
    """One pair of texts as given."""

    source: str
    target: str
    action: str | None = None


class BadRowError(UsageError):
    """A row that is no pair."""


def pair_of(source: Any, target: Any, action: Any = None, target_name: str = "target") -> PairRecord:
    """Return a pair of texts.

    Args:
        source: a text.
        target: a text.
        action: a text, or None.
        target_name: what the row calls its target.

    Raises:
        BadRowError: one of them is no text, or empty.
    """
    for key, value in (("source", source), (target_name, target), ("action", action)):
        if key != "action" or value is not None:
            check_text(key, value)
    return PairRecord(source, target, action)


def check_text(key: str, value: Any) -> None:
    """Check that a value is a text that can be written.

    Raises:
        BadRowError: it is none, or empty; names the key.
    """
    if not isinstance(value, str):
        raise BadRowError(f"{key} is not a text")
    if not value:
        raise BadRowError(f"{key} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRowError(f"{key} holds half a surrogate pair") from None
