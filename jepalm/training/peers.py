"""The other processes of a training: one that dies ends the rest within seconds, with its name."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist

from jepalm.atomic import process_lives
from jepalm.errors import JepalmError

LOOK_EVERY_S = 1.0
GRACE_S = 10.0
"""How long a process may still wait for a dead one before it is ended: a GPU waits without an error."""
NAME_WITHIN_S = 5.0
"""How long a broken connection waits for the end of the process behind it."""


@dataclass(frozen=True)
class Peer:
    """A process of the training."""

    rank: int
    host: str
    pid: int

    def __str__(self) -> str:
        return f"process {self.rank} (pid {self.pid} on {self.host})"

    @property
    def gone(self) -> bool:
        """Whether it is known to have ended; of another machine nothing is known."""
        if self.host != platform.node() or self.pid == os.getpid():
            return False
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return not process_lives(self.pid)
        return state in "ZX"


def meet() -> tuple[Peer, ...]:
    """All processes, by rank; each must call it."""
    found: list[Peer | None] = [None] * dist.get_world_size()
    dist.all_gather_object(found, Peer(dist.get_rank(), platform.node(), os.getpid()))
    return tuple(peer for peer in found if peer is not None)


@contextmanager
def guarded(
    peers: Sequence[Peer], explain: Callable[[str], JepalmError], give_up: Callable[[JepalmError], None]
) -> Iterator[None]:
    """End this process when another one has died.

    An exchange that fails for it becomes the explanation; where one waits forever instead, as on a GPU, a
    thread gives up after a few seconds.

    Args:
        peers: all processes.
        explain: makes an error of who died.
        give_up: told the error by the thread; ends the process.

    Raises:
        JepalmError: another process died.
    """
    if len(peers) < 2:
        yield
        return
    over = threading.Event()
    threading.Thread(target=_watch, args=(peers, over, explain, give_up), daemon=True).start()
    try:
        yield
    except RuntimeError as error:
        if not _of_an_exchange(error):
            raise
        raise explain(_who_died(peers)) from None
    finally:
        over.set()


def _of_an_exchange(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL"))


def _who_died(peers: Sequence[Peer]) -> str:
    """Name who is gone; a connection may break a moment before its process has ended."""
    until = time.monotonic() + NAME_WITHIN_S
    while time.monotonic() < until:
        gone = [str(peer) for peer in peers if peer.gone]
        if gone:
            return ", ".join(gone)
        time.sleep(0.05)
    others = sorted({peer.host for peer in peers} - {platform.node()})
    return f"a process on {' or '.join(others)}" if others else "another process"


def _watch(
    peers: Sequence[Peer],
    over: threading.Event,
    explain: Callable[[str], JepalmError],
    give_up: Callable[[JepalmError], None],
) -> None:
    while not over.wait(LOOK_EVERY_S):
        gone = [str(peer) for peer in peers if peer.gone]
        if gone:
            if not over.wait(GRACE_S):
                give_up(explain(", ".join(gone)))
            return
