"""Worker processes side by side, each with a thread here that hands it one task after another."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

from jepalm.sweep.task import Outcome, Task


class Pool:
    """Runs tasks in up to `jobs` processes.

    The processes stand in sessions of their own, so that Ctrl-C reaches only the sweep, which tells each of
    them to save.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.stop_signal = 0
        self._workers: set[subprocess.Popen[str]] = set()

    def run(self, tasks: list[Task], started: Callable[[Task], None]) -> Iterator[tuple[Task, Outcome]]:
        """Yield each task with its outcome as it is done; tasks not begun when told to stop are left out.

        Args:
            tasks: what to do, in this order.
            started: called from a thread when a task is handed out.
        """
        waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
        for task in tasks:
            waiting.put(task)
        outcomes: queue.SimpleQueue[tuple[Task, Outcome] | BaseException | None] = queue.SimpleQueue()
        threads = [
            threading.Thread(target=self._serve, args=(waiting, outcomes, started), daemon=True)
            for _ in range(min(self.jobs, len(tasks)))
        ]
        for thread in threads:
            thread.start()
        serving = len(threads)
        while serving:
            outcome = outcomes.get()
            if outcome is None:
                serving -= 1
            elif isinstance(outcome, BaseException):
                self.stop(signal.SIGTERM)
                raise outcome
            else:
                yield outcome

    def stop(self, number: int) -> None:
        """Begin nothing more and tell every process to save and stop."""
        self.stop_signal = self.stop_signal or number
        for worker in list(self._workers):
            _send(worker, signal.SIGINT)

    def _serve(
        self,
        waiting: queue.SimpleQueue[Task],
        outcomes: queue.SimpleQueue[tuple[Task, Outcome] | BaseException | None],
        started: Callable[[Task], None],
    ) -> None:
        worker: subprocess.Popen[str] | None = None
        try:
            while not self.stop_signal:
                try:
                    task = waiting.get_nowait()
                except queue.Empty:
                    break
                started(task)
                worker = worker if worker is not None and worker.poll() is None else self._start()
                outcomes.put((task, self._ask(worker, task)))
        except BaseException as error:
            outcomes.put(error)
        finally:
            if worker is not None:
                self._end(worker)
            outcomes.put(None)

    def _start(self) -> subprocess.Popen[str]:
        """Start a process whose runs remember this command line as their own."""
        command = [sys.executable, "-m", "jepalm.sweep.worker", *sys.argv[1:]]
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
        worker = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
            start_new_session=True,
        )
        self._workers.add(worker)
        if self.stop_signal:
            _send(worker, signal.SIGINT)
        return worker

    def _ask(self, worker: subprocess.Popen[str], task: Task) -> Outcome:
        assert worker.stdin is not None
        assert worker.stdout is not None
        start = time.monotonic()
        try:
            worker.stdin.write(task.model_dump_json() + "\n")
            worker.stdin.flush()
            answer = worker.stdout.readline()
        except OSError:
            answer = ""
        if answer:
            return Outcome.model_validate_json(answer)
        code, seconds = worker.wait(), time.monotonic() - start
        if self.stop_signal:
            return Outcome(status="interrupted", seconds=seconds)
        ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return Outcome(status="failed", message=f"its process {ended}", seconds=seconds)

    def _end(self, worker: subprocess.Popen[str]) -> None:
        """A worker whose standard input ends, ends."""
        assert worker.stdin is not None
        with contextlib.suppress(OSError):
            worker.stdin.close()
        worker.wait()
        self._workers.discard(worker)


def _send(worker: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        worker.send_signal(number)
