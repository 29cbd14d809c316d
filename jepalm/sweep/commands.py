"""`jepalm` commands as processes of their own, several at once, each on its share of the cores."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jepalm.errors import Interrupted, JepalmError, Stopped
from jepalm.training.signals import handled_by

STDERR_LINES = 3
"""Last lines of a failed command's standard error that are shown."""
SWEEP = "JEPALM_SWEEP"
"""Environment variable of a command: the number of the process whose end stops it."""
LOOKS_EVERY_S = 0.5


def stop_with_sweep() -> None:
    """Stop this command as SIGTERM does, once the sweep that started it is gone (killed, for one)."""
    sweep = os.environ.pop(SWEEP, "")
    if not sweep.isdecimal():
        return

    def watch() -> None:
        while os.getppid() == int(sweep):
            time.sleep(LOOKS_EVERY_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


class Commands:
    """Starts commands from any thread and stops all of them.

    Each is the leader of a session, so that Ctrl-C reaches only this process, which passes it on once: a
    second one would end a training at once.

    Args:
        jobs: commands at once. From two on each is pinned to its share of the cores.
        inherited: descriptors that stay open in every command, such as a lock.
    """

    def __init__(self, jobs: int, inherited: Sequence[int] = ()) -> None:
        self.jobs, self.inherited = jobs, inherited
        self.stop_signal = 0
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.RLock()  # a signal may come while another is passed on
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        share = max(1, len(cores) // jobs)
        self._shares: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        for job in range(jobs):
            start = job * share % max(1, len(cores))
            self._shares.put(cores[start : start + share])
        available = int(os.environ.get("OMP_NUM_THREADS") or len(cores) or os.cpu_count() or 1)
        self.threads = max(1, available // jobs) if jobs > 1 else None
        """Threads of a command that names no number; None: as many as torch takes."""

    def run(self, arguments: list[str], threads: int | None) -> None:
        """Run `jepalm ARGUMENTS` to its end.

        Args:
            arguments: of the command line.
            threads: of OpenMP; None: as many as it takes.

        Raises:
            JepalmError: it failed; the message ends with its exit code.
            Interrupted: it was stopped, or came after the stop.
        """
        share = self._shares.get()
        try:
            code, stderr = self.call(arguments, threads, share)
        finally:
            self._shares.put(share)
        if code == 0:
            return
        if self.stop_signal:
            raise Interrupted("stopped", signal_number=self.stop_signal)
        lines = [line for line in stderr.splitlines() if line.strip()][-STDERR_LINES:]
        said = " | ".join(lines).removeprefix("error: ")
        ended = f"jepalm {arguments[0]} was ended by signal {-code}" if code < 0 else f"exit code {code}"
        raise JepalmError(f"{said} ({ended})" if said else ended)

    def call(self, arguments: list[str], threads: int | None, cores: list[int]) -> tuple[int, str]:
        """Exit code and standard error of a command on some of the cores."""
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", SWEEP: str(os.getpid())}
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        with self._lock:
            if self.stop_signal:
                return 128 + self.stop_signal, ""
            process = subprocess.Popen(
                [sys.executable, "-m", "jepalm", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=environment,
                start_new_session=True,
                pass_fds=self.inherited,
            )
            self._running.add(process)
        if self.jobs > 1 and cores:
            with contextlib.suppress(OSError):  # it has ended already
                os.sched_setaffinity(process.pid, cores)
        stderr = process.communicate()[1]
        self._running.discard(process)
        return process.returncode, stderr

    def stop(self, number: int) -> None:
        """Begin nothing more and tell every command to save and stop."""
        self.stop_signal = self.stop_signal or number
        with self._lock:
            for process in list(self._running):
                process.send_signal(signal.SIGINT)

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM save and stop all commands; a second one ends them at once.

        Whatever else ends this block stops them too.
        """

        def stop(number: int, frame: object) -> None:
            again = bool(self.stop_signal)
            self.stop(number)
            if again:
                raise Stopped(number)

        with handled_by(stop):
            try:
                yield
            except BaseException:
                if not self.stop_signal:
                    self.stop(signal.SIGTERM)
                raise
