"""Reading JSON and YAML that others wrote: bounded in size, depth and count; a fault is a `ValueError`."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from jepalm.encodings import plain

MAX_JSON_BYTES = 256 << 20
"""Of a JSON file; `tokenizer.json` of a million entries has about 50 MB."""
MAX_YAML_BYTES = 1 << 18
"""Of a file of settings; the parser takes about a second for it."""
MAX_LINE = 16 << 20
"""Characters of a line of a JSON-lines file; the rest of a longer one is another that cannot be read."""
MAX_DEPTH = 64
MAX_NODES = 20_000
"""Values of a YAML text."""
MAX_INTEGER = 2**53
"""Largest magnitude of a whole number: what a float holds exactly."""
_HALF = re.compile("[\ud800-\udfff]")


class NotReadable(ValueError):
    """A text is not what it should be, or is beyond a limit.

    Attributes:
        line: where, counted from 1; None where that is not known.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def read_bytes(path: Path, most_bytes: int = MAX_JSON_BYTES) -> bytes:
    """Read a file, of which no more is read than is allowed.

    Raises:
        OSError: it cannot be read, or is no regular file.
        NotReadable: it is too large.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a file")  # a pipe would wait forever
    with open(path, "rb") as handle:
        content = handle.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise NotReadable(f"larger than {most_bytes:,} bytes")
    return content


def read_text(path: Path, most_bytes: int = MAX_JSON_BYTES) -> str:
    """Read a UTF-8 file of this program's own; see `read_bytes`.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    return plain(read_bytes(path, most_bytes).decode("utf-8"))


def parse_json(text: str) -> Any:
    """Parse JSON; halves of surrogate pairs become U+FFFD.

    Raises:
        NotReadable: it is not JSON, too deep, or has a whole number beyond `MAX_INTEGER`.
    """
    try:
        tree = json.loads(text, parse_int=_integer)
        halves = "\\ud" in text or "\\uD" in text
        return _whole(tree) if halves else _shallow(tree)
    except json.JSONDecodeError as error:
        raise NotReadable(error.msg, error.lineno) from None
    except RecursionError:
        raise NotReadable("nested too deep") from None


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not readable JSON.
    """
    return parse_json(read_text(path))


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield number, from 1, and object of each line of a file that is not blank; None where it is none.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file")  # a pipe would wait forever
    with open(path, encoding="utf-8", errors="replace") as handle:
        for number, line in enumerate(iter(lambda: handle.readline(MAX_LINE), ""), start=1):
            if not line.strip():
                continue
            try:
                tree = parse_json(line)
            except ValueError:
                tree = None
            yield number, tree if isinstance(tree, dict) else None


def parse_yaml(text: str) -> Any:
    """Parse YAML of plain mappings, lists, texts, numbers and truth values.

    Aliases, tags and dates are no part of it: a date is a text, the other two are refused.

    Raises:
        NotReadable: it is not such YAML, or beyond a limit.
    """
    if len(text) > MAX_YAML_BYTES:
        raise NotReadable(f"larger than {MAX_YAML_BYTES:,} characters")
    try:
        loader = _PlainLoader(text)
        try:
            tree = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None)
        told = str(said) if isinstance(error, _Refused) else "not valid YAML"
        raise NotReadable(told, mark.line + 1 if mark is not None else None) from None
    except (ValueError, OverflowError, RecursionError):
        raise NotReadable("not valid YAML") from None
    check_limits(tree)
    return tree


def check_limits(tree: Any) -> None:
    """Check depth, count and whole numbers of a tree.

    Raises:
        NotReadable: it is beyond a limit.
    """
    left = MAX_NODES
    stack = [(tree, 0)]
    while stack:
        node, depth = stack.pop()
        left -= 1
        if depth > MAX_DEPTH:
            raise NotReadable("nested too deep")
        if left < 0:
            raise NotReadable(f"more than {MAX_NODES:,} values")
        if isinstance(node, dict):
            stack.extend((child, depth + 1) for child in node.values())
        elif isinstance(node, list | tuple):
            stack.extend((child, depth + 1) for child in node)
        elif isinstance(node, int) and not -MAX_INTEGER <= node <= MAX_INTEGER:
            raise NotReadable("a whole number is out of range")


def _integer(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) > MAX_INTEGER:
        raise NotReadable("a whole number is out of range")
    return int(digits)


def _shallow(tree: Any) -> Any:
    """The tree itself, if it is not too deep."""
    level: list[Any] = [tree]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return tree
    raise NotReadable("nested too deep")


def _whole(tree: Any, depth: int = 0) -> Any:
    """The tree with U+FFFD for halves of surrogate pairs, which no file and no terminal can hold."""
    if depth > MAX_DEPTH:
        raise NotReadable("nested too deep")
    if isinstance(tree, dict):
        return {_HALF.sub("\ufffd", key): _whole(value, depth + 1) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_whole(value, depth + 1) for value in tree]
    return _HALF.sub("\ufffd", tree) if isinstance(tree, str) else tree


class _Refused(yaml.MarkedYAMLError):
    pass


class _PlainLoader(yaml.SafeLoader):
    """`yaml.SafeLoader` without aliases, tags and dates, and bounded."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        refused = ""
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            refused = "anchors and aliases are not taken"
        elif getattr(event, "tag", None) not in (None, "!"):
            refused = "tags are not taken"
        self._nodes += 1
        if self._depth >= MAX_DEPTH:
            refused = "nested too deep"
        elif self._nodes > 2 * MAX_NODES:
            refused = f"more than {MAX_NODES:,} values"
        if refused:
            raise _Refused(problem=refused, problem_mark=event.start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
