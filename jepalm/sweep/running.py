"""A sweep from its file to its table: what is missing is trained and evaluated, the rest is read."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jepalm.config import Config, read_config
from jepalm.data.prepared import open_prepared
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import Interrupted, JepalmError, UsageError, nearest
from jepalm.evaluation.rows import PROMPTS, answers_alone
from jepalm.numbers import duration, three
from jepalm.report.analysis.sweep import SweepTable
from jepalm.run import RunFolder, locked, open_run, write_atomically
from jepalm.sweep.file import Sweep, SweepRow, is_answered
from jepalm.sweep.pool import Pool
from jepalm.sweep.results import evaluated_of, table_of, value_of
from jepalm.sweep.runs import Cell, cells_of, task_of
from jepalm.sweep.task import Evaluate, Outcome, Task

FOLDER = "sweeps"
"""Folder of sweeps among the runs."""

Show = Callable[[str], None]


class Sweeping:
    """One call of a sweep.

    Args:
        sweep: the resolved file.
        runs: folder of runs; the sweep's own lie in `sweeps/NAME` of it.
        data_root: folder of prepared data.

    Raises:
        UsageError: data, baseline or scorer are not to be had, or do not fit together.
    """

    def __init__(self, sweep: Sweep, runs: Path, data_root: Path) -> None:
        self.sweep, self.data_root = sweep, data_root
        self.folder = runs / FOLDER / sweep.name
        self.troubles: dict[tuple[str, int], str] = {}
        names = sorted({row.config.data.name for row in sweep.rows})
        prepared = {name: open_prepared(name, data_root) for name in names}
        self._hashes = {name: data.meta.content_sha256 for name, data in prepared.items()}
        self._tasks = {
            name: data.meta.task if data.meta.pairing == "pairs" else None for name, data in prepared.items()
        }
        self._tokenizers = {name: data.tokenizer for name, data in prepared.items()}
        self._rows = {row.name: row for row in sweep.rows}
        self._settings = sweep.evaluate
        self.others: dict[str, Path | None] = {"baseline": None, "scorer": None}
        """The runs that stand beside and score; None where there is none yet."""
        for what in self.others:
            self._check_other(what, getattr(self._settings, what))
        self._find_others()

    def cells(self) -> list[Cell]:
        """Every row and seed with what there is of it."""
        return cells_of(self.sweep, self.folder, self._hashes, self.evaluates)

    def open_cells(self) -> list[Cell]:
        """Those with something left to do; a loss that was not finite would not be so again."""
        return [cell for cell in self.cells() if cell.status not in ("done", "failed")]

    def table(self) -> SweepTable:
        """The table of what there is."""
        return table_of(self.sweep, self.cells(), self.evaluates, self.troubles)

    def train(self, jobs: int, show: Show) -> None:
        """Train and evaluate what is missing, `jobs` at a time.

        Args:
            jobs: trainings side by side, each in a process with its share of the cores.
            show: takes a line for people.

        Raises:
            Interrupted: a signal came; every training was saved.
            JepalmError: another process runs this sweep, or its baseline cannot be trained.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(RunFolder(self.folder)), _signals_to(Pool(jobs)) as pool:
            write_atomically(self.folder / "sweep.yaml", self.sweep.path.read_text(encoding="utf-8"))
            progress = _Progress(self, show)
            for row in self._rows_beside():
                first = [cell for cell in self.open_cells() if self._is_beside(cell, row)]
                self._run(pool, first, progress)
                self._find_others()
                if not any(self._is_beside(cell, row) and cell.status == "done" for cell in self.cells()):
                    why = self.troubles.get((row.name, self.sweep.seeds[0]), "its loss was not finite")
                    raise JepalmError(f"row {row.name}, which is to score the others, failed: {why}")
            self._run(pool, self.open_cells(), progress)

    def evaluates(self, cell: Cell) -> Evaluate | None:
        """The evaluation that a cell needs; the baseline writes once, beside the first row that has one."""
        if not self._is_evaluated(cell.config):
            return None
        first = self._first_evaluated()
        beside = (cell.row, cell.seed) == (first.name, self.sweep.seeds[0])
        beside = beside and self._settings.baseline != cell.row
        settings, task = self._settings, self._tasks[cell.config.data.name]
        return Evaluate(
            split=settings.split,
            prompts=settings.prompts or (None if task else PROMPTS),
            samples=settings.samples,
            temperature=settings.temperature,
            seed=settings.seed,
            baseline=self.others["baseline"] if beside else None,
            scorer=None if cell.has_answers_alone else self.others["scorer"],
            task=task,
            reading=settings.reading if task == "regex" else "boundary",
            databases=settings.databases if task == "spider" else None,
        )

    def _is_evaluated(self, config: Config) -> bool:
        """Where any figure needs it; what has answers alone, on given pairs where figures of these do."""
        if not answers_alone(config):
            return self.sweep.needs_evaluation
        answered = any(is_answered(figure) for figure in self.sweep.figures)
        return answered and self._tasks[config.data.name] is not None

    def _first_evaluated(self) -> SweepRow:
        """The row that the baseline stands beside: one whose texts it can stand beside, if there is one."""
        rows = [row for row in self.sweep.rows if self._is_evaluated(row.config)]
        return min(rows, key=lambda row: answers_alone(row.config))

    def _run(self, pool: Pool, cells: list[Cell], progress: _Progress) -> None:
        tasks = [
            task_of(cell, self.folder, self.data_root, self.evaluates(cell), pool.jobs) for cell in cells
        ]
        for task, outcome in pool.run(tasks, progress.started):
            if outcome.status == "failed":
                self.troubles[task.row, task.seed] = outcome.message
            progress.ended(task, outcome)
        if pool.stop_signal:
            message = f"stopped and saved: {progress.done} of {progress.total} runs are done"
            raise Interrupted(message, f"go on with: jepalm sweep {self.sweep.path}", pool.stop_signal)

    def _rows_beside(self) -> list[SweepRow]:
        """Rows that the others are evaluated with, and that must be trained before them."""
        if not self.sweep.needs_evaluation:
            return []
        names = dict.fromkeys((self._settings.baseline, self._settings.scorer))
        return [self._rows[name] for name in names if name in self._rows]

    def _is_beside(self, cell: Cell, row: SweepRow) -> bool:
        return (cell.row, cell.seed) == (row.name, self.sweep.seeds[0])

    def _find_others(self) -> None:
        """Set baseline and scorer; a causal baseline scores where nothing else does."""
        if not self.sweep.needs_evaluation:
            return
        for what in self.others:
            given = getattr(self._settings, what)
            if given in self._rows:
                done = [cell for cell in self.cells() if self._is_beside(cell, self._rows[given])]
                self.others[what] = done[0].run.path if done[0].run and done[0].status == "done" else None
            else:
                self.others[what] = Path(given) if given is not None else None
        baseline = self.others["baseline"]
        if self._settings.scorer is None and baseline is not None and _is_causal(baseline):
            self.others["scorer"] = baseline

    def _check_other(self, what: str, given: str | None) -> None:
        if given is None or not self.sweep.needs_evaluation:
            return
        if given in self._rows:
            if self._rows[given].config.model.family != "causal":
                raise UsageError(
                    f"evaluate.{what}: row {given} is no causal model", "it stands in the table as it is"
                )
            tokenizer = self._tokenizers[self._rows[given].config.data.name]
        else:
            if not Path(given).exists():
                hint = nearest(given, self._rows) or "name a run's folder or a row"
                raise UsageError(f"evaluate.{what}: no run or row {given}", hint)
            run = open_run(Path(given))
            if what == "scorer" and not _is_causal(run.path):
                raise UsageError(f"evaluate.scorer: {given} cannot score text", "it takes a causal run")
            tokenizer = TextTokenizer.load(run.path / "tokenizer.json")
        for row in self.sweep.rows:
            if self._tokenizers[row.config.data.name].to_json() != tokenizer.to_json():
                message = f"evaluate.{what}: {given} and row {row.name} have different tokenizers"
                raise UsageError(message, "take one with the same tokenizer")


class _Progress:
    """One line a finished run: its figures, its time and the time left."""

    def __init__(self, sweeping: Sweeping, show: Show) -> None:
        self.sweeping, self.show = sweeping, show
        self.spent: list[float] = []
        self.begun: dict[str, float] = {}
        self.total = len(sweeping.sweep.rows) * len(sweeping.sweep.seeds)
        self.left = len(sweeping.open_cells())
        self.done = self.total - self.left

    def started(self, task: Task) -> None:
        """Remember when; called from the thread that hands the task out."""
        self.begun[task.label] = time.monotonic()

    def ended(self, task: Task, outcome: Outcome) -> None:
        """Show the line of a task."""
        self.begun.pop(task.label, None)
        if outcome.status == "interrupted":
            self.show(f"{task.label} · saved")
            return
        self.left -= 1
        self.spent.append(outcome.seconds)
        if outcome.status == "failed":
            self.show(f"{task.label} · failed: {outcome.message}")
            return
        self.done += 1
        parts = [f"{self.done}/{self.total}  {task.label}", *self._figures(task, outcome)]
        self.show(" · ".join([*parts, duration(outcome.seconds), *self._time_left(task.jobs)]))

    def _figures(self, task: Task, outcome: Outcome) -> list[str]:
        assert outcome.run is not None
        cell = Cell(task.row, task.seed, task.config, "done", RunFolder(outcome.run))
        evaluated = evaluated_of(cell, self.sweeping.evaluates)
        values = {name: value_of(cell, evaluated, name) for name in self.sweeping.sweep.figures}
        return [
            f"{name.partition('/')[2]} {three(value)}" for name, value in values.items() if value is not None
        ]

    def _time_left(self, jobs: int) -> list[str]:
        """From the mean time of the runs so far, less what those under way have had."""
        if not self.left:
            return []
        now, mean = time.monotonic(), sum(self.spent) / len(self.spent)
        ahead = self.left * mean - sum(min(mean, now - start) for start in list(self.begun.values()))
        return [f"about {duration(max(ahead, mean / 2) / min(jobs, self.left))} left"]


def _is_causal(path: Path) -> bool:
    return read_config(open_run(path).config).model.family == "causal"


@contextmanager
def _signals_to(pool: Pool) -> Iterator[Pool]:
    """The first SIGINT or SIGTERM saves and stops; the second SIGINT stops at once."""

    def ask(number: int, frame: object) -> None:
        again = pool.stop_signal and number == signal.SIGINT
        pool.stop(number)
        if again:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield pool
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
