"""Chats as people have them: turns of several roles, and the pairs of a question and its answer in them.

Two forms are read: `{"messages": [{"role", "content"}]}` and, of ShareGPT,
`{"conversations": [{"from", "value"}]}`.
What is no text is left out and counted, not refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from jepalm.data.pairs.records import BadRowError, PairRecord, pair_of

CHAT_KEYS = ("messages", "conversations", "conversation")
"""Columns that hold the turns of a chat."""
BETWEEN = "\n\n"
"""Stands between a system turn, or an instruction, and what follows it in a source."""
LeftOut = Counter[str]
"""What was left out, in words, and how often."""

_ROLES = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
_TEXT_PARTS = ("text", "input_text", "output_text")


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
    if not isinstance(turns, list):
        raise BadRowError("the chat is not a list of messages")
    pairs = []
    asked: str | None = None
    said = _system_of(row, left_out, system)
    without_text = 0
    for turn in turns:
        role, content = _role_and_content(turn)
        text = _text_of(content, left_out)
        if not text:
            left_out["turns without text"] += 1
            without_text += 1
        elif role == "system":
            if system:
                said = text
            else:
                left_out["system turns (--system keeps them)"] += 1
        elif role == "user":
            left_out["user turns without an answer"] += asked is not None
            asked = text
        elif role == "assistant" and asked is not None:
            source = f"{said}{BETWEEN}{asked}" if said else asked
            pairs.append(pair_of(source, text, row.get("action")))
            asked = None
        else:
            left_out[f"{role} turns"] += 1
    left_out["user turns without an answer"] += asked is not None
    if not pairs and not without_text:
        raise BadRowError("has no user turn that an assistant turn answers")
    return pairs


def instruction_pairs(row: Mapping[str, Any], left_out: LeftOut, system: bool) -> list[PairRecord]:
    """The pair of a row of Alpaca: `{"instruction", "input", "output"}`.

    Args:
        row: as given; `input` may be empty or missing, `system` and `history` may be there.
        left_out: counts what is left out.
        system: whether `system` is kept, in front of the source.

    Raises:
        BadRowError: instruction or output is no text.
    """
    if "output" not in row:
        raise BadRowError("has no output", 'such rows are {"instruction": ..., "input": ..., "output": ...}')
    parts = [_system_of(row, left_out, system), row["instruction"], row.get("input") or ""]
    history = row.get("history")
    if history:
        left_out["earlier turns (history)"] += len(history) if isinstance(history, list) else 1
    for key in ("instruction", "input"):
        if not isinstance(row.get(key) or "", str):
            raise BadRowError(f"{key} is not a text")
    return [pair_of(BETWEEN.join(part for part in parts if part), row["output"], row.get("action"))]


def _system_of(row: Mapping[str, Any], left_out: LeftOut, system: bool) -> str:
    """What a row says beside its turns."""
    said = row.get("system") or ""
    if not isinstance(said, str):
        raise BadRowError("system is not a text")
    if said and not system:
        left_out["system turns (--system keeps them)"] += 1
    return said if system else ""


def _role_and_content(turn: Any) -> tuple[str, Any]:
    if not isinstance(turn, dict):
        raise BadRowError("a message is not an object")
    role = turn.get("role", turn.get("from"))
    if not isinstance(role, str):
        raise BadRowError("a message lacks role or content")
    has_calls = any(turn.get(key) for key in ("tool_calls", "function_call"))
    if not has_calls and not {"content", "value"} & turn.keys():
        raise BadRowError("a message lacks role or content")
    return _ROLES.get(role.lower(), role[:20]), turn.get("content", turn.get("value"))


def _text_of(content: Any, left_out: LeftOut) -> str:
    """The text of a turn, its text parts joined; empty where it has none."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise BadRowError("the content of a message is not a text or a list of parts")
    texts = []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        text = part.get("text") if isinstance(part, dict) else part
        if kind in _TEXT_PARTS and isinstance(text, str):
            texts.append(text)
        else:
            left_out[f"{str(kind)[:20]} parts"] += 1
    return "".join(texts)
