"""Chats as people have them: turns of several roles, and the pairs of a question and its answer in them.

A turn is `{"role", "content"}` or, of ShareGPT, `{"from", "value"}`; rows of Alpaca and Dolly are
instructions.
What is no text is left out and counted, not refused.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jepalm.data.pairs.records import BadRowError, PairRecord, pair_of
from jepalm.numbers import counted

CHAT_KEYS = ("messages", "conversations", "conversation")
"""Columns that hold the turns of a chat."""
INSTRUCTION = "instruction"
CHAT_COLUMNS = (*CHAT_KEYS, INSTRUCTION)
"""Of which a row that is a chat or an instruction has one."""
"""The column that makes a row an instruction."""
BETWEEN = "\n\n"
"""Stands between a system turn, or an instruction, and what follows it in a source."""
LeftOut = Counter[str]
"""What was left out, in words in the plural, and how often."""
SYSTEM_TURNS = "system turns (--system keeps them)"

_ROLES = {
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
ROLE_KEYS = ("role", "from", "speaker")
_CONTENT_KEYS = ("content", "value", "text")
_KINDS_SHOWN = 8
_SINGULAR = r"\1"
_PLURAL = re.compile(r"\b(turn|part|pair)s\b")
_TEXT_PARTS = ("text", "input_text", "output_text")
_DEEPEST_PART = 8


def chat_pairs(turns: Any, row: Mapping[str, Any], left_out: LeftOut, system: bool) -> list[PairRecord]:
    """The pairs of a chat: one for each user turn that an assistant turn answers in text.

    Args:
        turns: of the chat, as given.
        row: the chat's row: its `action`, and its `system` where that is no turn.
        left_out: counts what is left out.
        system: whether what the system says is kept, in front of each source.

    Raises:
        BadRowError: it is no chat, or no question in it has an answer.
    """
    pairs = []
    asked: str | None = None
    said = _system_of(row, left_out, system)
    roles = set()
    for role, content in _turns(turns):
        text = "".join(_texts(content, left_out))
        roles.add(role)
        if not text.strip():
            left_out["turns without text"] += 1
        elif role == "system":
            if system:
                said = text
            else:
                left_out[SYSTEM_TURNS] += 1
        elif role == "user":
            left_out["user turns without an answer"] += asked is not None
            asked = text
        elif role == "assistant" and asked is not None:
            pairs.append(pair_of(_joined((said, asked)), text, row.get("action"), "content"))
            asked = None
        else:
            left_out[f"{role} turns"] += 1
    left_out["user turns without an answer"] += asked is not None
    if not pairs and not left_out["turns without text"]:
        of = f"; its turns are of {', '.join(sorted(roles))}" if roles else ""
        raise BadRowError(f"has no user turn that an assistant turn answers{of}")
    return pairs


def in_words(left_out: Mapping[str, int]) -> str:
    """What was left out, each in the right number: `1 tool turn, 2 turns without text`."""
    shown = list(left_out.items())[:_KINDS_SHOWN]
    words = [f"{n:,} {what if n != 1 else _PLURAL.sub(_SINGULAR, what, count=1)}" for what, n in shown]
    others = [counted(len(left_out) - len(shown), "other kind")] if len(left_out) > len(shown) else []
    return ", ".join([*words, *others])


def instruction_pairs(row: Mapping[str, Any], left_out: LeftOut, system: bool) -> list[PairRecord]:
    """The pairs of a row of Alpaca, `{"instruction", "input", "output"}`, of Dolly or of Self-Instruct.

    Args:
        row: as given; `input` (of Dolly, `context`) may be empty or missing, and `system` and `history`
            may be there. Of Self-Instruct, input and output stand in each of its `instances`.
        left_out: counts what is left out.
        system: whether `system` is kept, in front of the source.

    Raises:
        BadRowError: instruction or output is no text.
    """
    instances = row.get("instances") if row.get("output") is None else None
    if isinstance(instances, list) and all(isinstance(one, dict) for one in instances):
        rows = ({**row, "instances": None, **one} for one in instances)
        return [pair for one in rows for pair in instruction_pairs(one, left_out, system)]
    output = "response" if row.get("output") is None and "response" in row else "output"
    if output not in row:
        raise BadRowError("has no output", 'such rows are {"instruction": ..., "input": ..., "output": ...}')
    history = row.get("history")
    if history:
        left_out["earlier turns (history)"] += len(history) if isinstance(history, list) else 1
    parts = [
        _system_of(row, left_out, system),
        *(_text(row, key) for key in (INSTRUCTION, "input", "context")),
    ]
    return [pair_of(_joined(parts), row[output], row.get("action"), output)]


def _joined(parts: Iterable[str]) -> str:
    """The parts of a source that are not empty."""
    return BETWEEN.join(part for part in parts if part)


def _text(row: Mapping[str, Any], key: str) -> str:
    """A part of a source, which may be missing."""
    text = row.get(key) or ""
    if not isinstance(text, str):
        raise BadRowError(f"{key} is not a text")
    return text


def _system_of(row: Mapping[str, Any], left_out: LeftOut, system: bool) -> str:
    """What a row says beside its turns."""
    said = _text(row, "system")
    if said and not system:
        left_out[SYSTEM_TURNS] += 1
    return said if system else ""


def _turns(given: Any) -> Iterator[tuple[str, Any]]:
    """Role and content of each turn of a chat, which may be JSON in a text."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (RecursionError, ValueError):
            given = None
    if not isinstance(given, list):
        raise BadRowError("the chat is not a list of messages")
    for turn in given:
        if not isinstance(turn, dict):
            raise BadRowError("a message is not an object")
        role = _first(turn, ROLE_KEYS)
        if role is None and turn and all(str(key).lower() in _ROLES for key in turn):
            yield from ((_ROLES[key.lower()], content) for key, content in turn.items())
        elif not isinstance(role, str):
            raise BadRowError("a message has no role")
        else:
            yield _ROLES.get(role.lower(), role[:20]), _first(turn, _CONTENT_KEYS)


def _first(turn: Mapping[str, Any], keys: Iterable[str]) -> Any:
    """What a turn has under the first of the keys that is not empty; None where all are."""
    return next((turn[key] for key in keys if turn.get(key) is not None), None)


def _texts(content: Any, left_out: LeftOut, depth: int = 0) -> Iterator[str]:
    """The texts of a turn: one, those of a list of parts, or those of a part; other parts are left out."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list) and depth < _DEEPEST_PART:
        for part in content:
            yield from _texts(part, left_out, depth + 1)
    elif isinstance(content, dict) and depth < _DEEPEST_PART:
        kind = content.get("type") or content.get("content_type") or "text"
        inside = _first(content, ("text", "content", "value", "parts")) if kind in _TEXT_PARTS else None
        if inside is None:
            left_out[f"{str(kind)[:20]} parts"] += 1
        else:
            yield from _texts(inside, left_out, depth + 1)
    elif content is not None and depth == 0:
        raise BadRowError("the content of a message is not a text or a list of parts")
    elif content is not None:
        left_out["parts without text"] += 1
