"""Seeds and counts of the torture, and a process or a disk that ends at any write.

`make torture` sets JEPALM_TORTURE and runs all of it.
"""

import builtins
import errno
import io
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

FULL = bool(os.environ.get("JEPALM_TORTURE"))
RUNS = int(os.environ.get("JEPALM_TORTURE_RUNS", "25"))
"""Trainings of each case in the full form, each killed up to six times."""
SEED = int(os.environ.get("JEPALM_TORTURE_SEED") or (time.time_ns() % 2**31 if FULL else 0))
FAILURES = Path(os.environ.get("JEPALM_TORTURE_FAILURES", "build/torture-failures.jsonl"))
COUNTS = {}
WRITES = ("fsync", "rename", "replace", "write", "symlink", "unlink", "mkdir")
"""Calls of `os` that write, beside `open`; opening a file for writing and writing to it are two calls."""
FAULTS = (errno.ENOSPC, errno.EIO)


def files_of(folder):
    """Content of every file by its path."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def count(what, number=1):
    COUNTS[what] = COUNTS.get(what, 0) + number


def write_failure(**found):
    """Write what failed to a file, with what is needed to repeat it."""
    FAILURES.parent.mkdir(parents=True, exist_ok=True)
    with open(FAILURES, "a", encoding="utf-8") as file:
        file.write(json.dumps({"seed": SEED, **found}) + "\n")


def before_each_write(replace, act):
    """Call `act` before every writing call of this process's main thread.

    Args:
        replace: sets an attribute: `setattr`, or pytest's `monkeypatch.setattr`.
        act: may end the process or raise OSError.
    """
    import jepalm.training.checkpoint as checkpoints

    def acting(call):
        def acted(*given, **options):
            if threading.current_thread() is threading.main_thread():
                act()
            return call(*given, **options)

        return acted

    def opening(call, writes):
        def opened(path, *given, **options):
            writing = writes(given[0] if given else options.get("mode", "r"))
            if writing and not isinstance(path, int):
                acting(lambda: None)()
            handle = call(path, *given, **options)
            if writing and not isinstance(handle, int):
                raw = getattr(getattr(handle, "buffer", handle), "raw", handle)
                raw.write = acting(raw.write)
            return handle

        return opened

    for name in WRITES:
        replace(os, name, acting(getattr(os, name)))
    flags = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    replace(os, "open", opening(os.open, lambda how: how & flags))
    opened = opening(io.open, lambda how: set(how) & set("wax+"))
    replace(io, "open", opened)
    replace(builtins, "open", opened)
    replace(checkpoints, "save_file", acting(checkpoints.save_file))


class FailingDisk:
    """Makes the nth write fail, and counts all of them; from `lasting` on, every later one too."""

    def __init__(self, monkeypatch, nth=0, fault=0, *, lasting=False):
        self.seen, self.nth, self.fault, self.lasting = 0, nth, fault, lasting
        before_each_write(monkeypatch.setattr, self._act)

    def _act(self):
        self.seen += 1
        if self.seen == self.nth or (self.lasting and self.seen > self.nth):
            raise OSError(self.fault, os.strerror(self.fault))


def forked(work):
    """Run in a forked process, quietly; give its number."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            work()
            code = 0
        except BaseException:
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(code)
    return child


def ended(child):
    """Its exit code once it has ended, or the negative number of the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying(work, after):
    """The same work, killed at the nth write of this process."""

    def run():
        left = after

        def die():
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        before_each_write(setattr, die)
        work()

    return run


def killed(work, after):
    """Run to the nth write in a process of its own; whether it was killed there, or had ended before."""
    code = ended(forked(dying(work, after)))
    assert code in (0, -signal.SIGKILL), code
    count("kills", int(code != 0))
    return code != 0
