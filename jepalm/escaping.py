"""Text from outside made harmless where it is shown: one function an output.

Prompts, samples, names, config keys and the messages of errors may hold anything. HTML is escaped by
the page's template engine (`jepalm/report/render/page.py`), Markdown in `jepalm/report/render/markdown.py`.
"""

from __future__ import annotations

import json
import re
from typing import Any

_ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""What acts on a terminal or turns the reading direction: C0 but tab and line feed, C1, bidi controls; and
halves of surrogate pairs, which cannot be written."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


def for_terminal(text: str) -> str:
    """Text in which nothing acts on a terminal: a visible sign a character, ESC is ␛."""
    return _ACTS.sub(_sign, text)


def for_json(tree: Any, *, indent: int | None = None) -> str:
    """A tree as JSON that a program reads exactly and a terminal shows harmlessly.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(tree, indent=indent, ensure_ascii=False, allow_nan=False)
    return _ACTS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def for_csv(cell: Any) -> Any:
    """A cell that a spreadsheet shows and does not compute: a text that begins like a formula gets a quote.

    Numbers stay, also as text.
    """
    if not isinstance(cell, str):
        return cell
    safe = for_terminal(cell)
    if not safe.lstrip(" ").startswith(_FORMULA) or _is_number(safe):
        return safe
    return f"'{safe}"


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"
