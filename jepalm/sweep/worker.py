"""A worker process: reads tasks from standard input, one a line, and answers each with an outcome.

`python -m jepalm.sweep.worker`. SIGINT and SIGTERM save a training, as they do in `jepalm train`, and end
everything else at once. When the sweep is gone, standard input ends, and so does the worker.
"""

from __future__ import annotations

import functools
import os
import queue
import re
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from jepalm.config import Config
    from jepalm.run import RunFolder
    from jepalm.sweep.task import Outcome, Task

NAME_LENGTH = 40
"""Characters of a run's name that its folder keeps."""


def main() -> None:
    """Work until standard input ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
    tasks: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()

    from jepalm.sweep.task import Task

    while True:
        task = Task.model_validate_json(tasks.get())
        answers.write(perform(task).model_dump_json() + "\n")
        answers.flush()


def perform(task: Task) -> Outcome:
    """Train and evaluate what a task needs; every fault becomes its outcome."""
    from jepalm.errors import Interrupted, JepalmError
    from jepalm.sweep.task import Outcome

    start = time.monotonic()
    run, message = None, ""
    status: Literal["done", "interrupted", "failed"] = "failed"
    try:
        run = _trained(task)
        if task.evaluate is not None:
            _evaluate(task, run)
        status = "done"
    except Interrupted:
        status = "interrupted"
    except JepalmError as error:
        message = str(error)
    except Exception as error:  # a bug in one row is no reason to lose the others
        traceback.print_exc()
        message = f"{type(error).__name__}: {error}"
    path = run.path if run is not None else None
    return Outcome(status=status, message=message, run=path, seconds=time.monotonic() - start)


def run_name(row: str, seed: int) -> str:
    """Name of a run's folder after its date: the row, shortened where it is long, and the seed."""
    end = f"-seed{seed}"
    start = re.sub(r"[^A-Za-z0-9._-]+", "-", row).strip("-.") or "row"
    return start[: NAME_LENGTH - len(end)].rstrip("-.") + end


def _listen(tasks: queue.Queue[str]) -> None:
    for line in sys.stdin:
        tasks.put(line)
    os.kill(os.getpid(), signal.SIGTERM)


def _trained(task: Task) -> RunFolder:
    """The task's run, trained to its end: as it is, resumed, or new."""
    import json

    from jepalm.run import RunFolder
    from jepalm.session import new_session, resumed_session
    from jepalm.training.progress import silent_console

    config = _shared(task)
    run = RunFolder(task.run) if task.run is not None else None
    if run is not None and run.read_manifest().get("status") == "finished":
        return run
    with silent_console() as silent:
        if run is not None and _has_checkpoint(run):
            hardware = config.hardware.model_dump().items()
            settings = [f"hardware.{key}={json.dumps(value)}" for key, value in hardware]
            with resumed_session(run.path, {}, settings, task.data_root) as session:
                session.train(run, silent)
            return run
        with new_session(config, task.data_root) as session:
            run = session.open_folder(task.folder, run_name(task.row, task.seed), session.cost())
            session.train(run, silent)
    return run


def _evaluate(task: Task, run: RunFolder) -> None:
    from jepalm.evaluation.evaluate import evaluate
    from jepalm.evaluation.settings import EvaluationSettings
    from jepalm.generation.loading import load_trained
    from jepalm.run import open_run, write_json
    from jepalm.sweep.runs import evaluation_file, read_evaluation

    asked = task.evaluate
    assert asked is not None
    if read_evaluation(run, asked) is not None:
        return
    hardware = _shared(task).hardware
    trained = load_trained(run, hardware=hardware)
    baseline, scorer = (
        load_trained(open_run(path), hardware=hardware) if path is not None else None
        for path in (asked.baseline, asked.scorer)
    )
    settings = EvaluationSettings(
        split=asked.split,
        n_prompts=asked.prompts,
        n_samples=asked.samples,
        temperature=asked.temperature,
        seed=asked.seed,
        reading=asked.reading,
        databases=asked.databases,
    )
    baselines = [baseline] if baseline is not None else []
    data = trained.data(task.data_root)
    evaluation = evaluate(trained, data, settings, baselines=baselines, scorer=scorer)
    tree = {**evaluation.as_json(), "asked": asked.asked(trained.checkpoint.step)}
    write_json(evaluation_file(run, asked.split), tree)


def _has_checkpoint(run: RunFolder) -> bool:
    from jepalm.errors import JepalmError
    from jepalm.training.checkpoint import find_checkpoint

    try:
        find_checkpoint(run)
    except JepalmError:
        return False
    return True


def _shared(task: Task) -> Config:
    """The config with this process's share of the cores, where it names no threads itself."""
    config = task.config
    if task.jobs == 1 or config.hardware.threads is not None:
        return config
    threads = max(1, _cores() // task.jobs)
    return config.model_copy(update={"hardware": config.hardware.model_copy(update={"threads": threads})})


@functools.cache
def _cores() -> int:
    """Threads that torch takes when it is alone; asked before they are shared out, as the first task does."""
    import torch

    return torch.get_num_threads()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # the second one, in the middle of a training
        sys.exit(130)
