"""A sweep from its file to its table: what is missing is trained and evaluated, the rest is read."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from jepalm.atomic import sweep_temporary, write_atomically
from jepalm.config import Config, read_config
from jepalm.data.prepared import open_prepared
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import Interrupted, JepalmError, UsageError, nearest
from jepalm.evaluation.rows import PROMPTS, answers_alone
from jepalm.numbers import duration, three
from jepalm.report.analysis.sweep import SweepTable
from jepalm.run import RunFolder, locked, open_run
from jepalm.shell import command
from jepalm.sweep.commands import Commands
from jepalm.sweep.evaluations import EvaluationRequest
from jepalm.sweep.file import Sweep, SweepRow, is_of_pairs
from jepalm.sweep.results import evaluated_of, table_of, value_of
from jepalm.sweep.runs import SweepCell, cells_of

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
        self.sweep, self.data_root = _with_teachers(sweep, runs), data_root
        self.folder = runs / FOLDER / sweep.name
        self.troubles: dict[tuple[str, int], str] = {}
        """Why a row and seed failed in this call."""
        names = sorted({row.config.data.name for row in sweep.rows})
        prepared = {name: open_prepared(name, data_root) for name in names}
        self._hashes = {name: data.meta.content_sha256 for name, data in prepared.items()}
        self._tasks = {
            name: data.meta.task if data.meta.pairing == "pairs" else None for name, data in prepared.items()
        }
        self._tokenizers = {name: data.tokenizer for name, data in prepared.items()}
        self._rows = {row.name: row for row in self.sweep.rows}
        self._settings = sweep.evaluate
        self.others: dict[str, Path | None] = {"baseline": None, "scorer": None}
        """The runs that are the baseline and the scorer; None where there is none yet."""
        for what in self.others:
            self._check_other(what, getattr(self._settings, what))
        self._find_others()

    def cells(self) -> list[SweepCell]:
        """Every row and seed with what there is of it."""
        return cells_of(self.sweep, self.folder, self._hashes, self.evaluates)

    def open_cells(self) -> list[SweepCell]:
        """Those with something left to do; a loss that was not finite would not be so again."""
        return [cell for cell in self.cells() if cell.status not in ("done", "failed")]

    def table(self) -> SweepTable:
        """The table of what there is."""
        return table_of(self.sweep, self.cells(), self.evaluates, self.troubles)

    def train(self, jobs: int, show: Show) -> None:
        """Train and evaluate what is missing, `jobs` at a time.

        Args:
            jobs: trainings at once, each in a process with its share of the cores.
            show: takes a line for people.

        Raises:
            Interrupted: a signal came; every training was saved.
            JepalmError: another process runs this sweep, or its baseline cannot be trained.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(RunFolder(self.folder)) as lock:
            sweep_temporary(self.folder)
            write_atomically(self.folder / "sweep.yaml", self.sweep.path.read_bytes())
            commands = Commands(jobs, [lock])
            with commands.stopped_by_signals():
                self._train(commands, _Progress(self, show, jobs))

    def _train(self, commands: Commands, progress: _Progress) -> None:
        for row in self._rows_needed_first():
            first = [cell for cell in self.open_cells() if self._is_first_of(row, cell)]
            self._run(commands, first, progress)
            self._find_others()
            if not any(self._is_first_of(row, cell) and cell.status == "done" for cell in self.cells()):
                why = self.troubles.get((row.name, self.sweep.seeds[0]), "its loss was not finite")
                raise JepalmError(f"row {row.name}, which is to score the others, failed: {why}")
        self._run(commands, self.open_cells(), progress)

    def evaluates(self, cell: SweepCell) -> EvaluationRequest | None:
        """The evaluation that a cell needs; only that of the first row that can have it has the baseline."""
        if not self._is_evaluated(cell.config):
            return None
        first = self._first_evaluated()
        has_baseline = self._is_first_of(first, cell) and self._settings.baseline != cell.row
        settings, task = self._settings, self._tasks[cell.config.data.name]
        return EvaluationRequest(
            split=settings.split,
            prompts=settings.prompts or (None if task else PROMPTS),
            samples=settings.samples,
            temperature=settings.temperature,
            seed=settings.seed,
            baseline=self.others["baseline"] if has_baseline else None,
            scorer=None if answers_alone(cell.config) else self.others["scorer"],
            task=task,
            reading=settings.reading if task == "regex" else "boundary",
            databases=settings.databases if task == "spider" else None,
        )

    def _is_evaluated(self, config: Config) -> bool:
        """Whether a metric of the table needs it; of a model that has only answers, a metric of answers."""
        if not answers_alone(config):
            return self.sweep.needs_evaluation
        of_pairs = any(is_of_pairs(name) for name in self.sweep.metrics)
        return of_pairs and self._tasks[config.data.name] is not None

    def _first_evaluated(self) -> SweepRow:
        """The row whose evaluation has the baseline: the first that has texts, else the first of all."""
        rows = [row for row in self.sweep.rows if self._is_evaluated(row.config)]
        return min(rows, key=lambda row: answers_alone(row.config))

    def _run(self, commands: Commands, cells: list[SweepCell], progress: _Progress) -> None:
        with ThreadPoolExecutor(commands.jobs) as executor:
            futures = {executor.submit(self._finish, cell, commands, progress): cell for cell in cells}
            for future in as_completed(futures):
                self._note(futures[future], future, progress)
        if commands.stop_signal:
            message = f"stopped and saved: {progress.done} of {progress.total} runs are done"
            hint = f"go on with: {command('sweep', self.sweep.path)}"
            raise Interrupted(message, hint, commands.stop_signal)

    def _finish(self, cell: SweepCell, commands: Commands, progress: _Progress) -> SweepCell | None:
        """Train and evaluate what a cell lacks, in a thread of its own; None where a stop came before it."""
        if commands.stop_signal:
            return None
        progress.started(cell)
        if cell.status != "trained":
            arguments = cell.train_arguments(self.folder, self.data_root, commands.threads)
            commands.run(arguments, cell.config.hardware.threads or commands.threads)
            found = {(one.row, one.seed): one for one in self.cells()}
            cell = found[cell.row, cell.seed]
        if cell.run is None:
            raise JepalmError("its run is not in the sweep's folder", f"see {self.folder}")
        request = self.evaluates(cell)
        if request is not None and request.read(cell.run) is None:
            hardware = cell.config.hardware
            arguments = request.arguments(cell.run, self.data_root, hardware)
            commands.run(arguments, hardware.threads or commands.threads)
            request.mark(cell.run)
        return replace(cell, status="done")

    def _note(self, cell: SweepCell, future: Future[SweepCell | None], progress: _Progress) -> None:
        """Show what became of a cell, and keep why it failed."""
        try:
            done = future.result()
        except Interrupted:
            progress.saved(cell)
        except JepalmError as error:
            self.troubles[cell.row, cell.seed] = str(error)
            progress.failed(cell, str(error))
        else:
            if done is not None:
                progress.finished(done)

    def _rows_needed_first(self) -> list[SweepRow]:
        """Rows that are the baseline or the scorer of the others."""
        if not self.sweep.needs_evaluation:
            return []
        names = dict.fromkeys((self._settings.baseline, self._settings.scorer))
        return [self._rows[name] for name in names if name in self._rows]

    def _is_first_of(self, row: SweepRow, cell: SweepCell) -> bool:
        """Whether a cell is a row under the first seed."""
        return (cell.row, cell.seed) == (row.name, self.sweep.seeds[0])

    def _find_others(self) -> None:
        """Set baseline and scorer; a causal baseline scores where nothing else does."""
        if not self.sweep.needs_evaluation:
            return
        for what in self.others:
            given = getattr(self._settings, what)
            if given in self._rows:
                done = [cell for cell in self.cells() if self._is_first_of(self._rows[given], cell)]
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
                    f"evaluate.{what}: row {given} is no causal model",
                    "its own metrics are in the table anyway",
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
    """One line a finished run: its metrics, its time and the time left."""

    def __init__(self, sweeping: Sweeping, show: Show, jobs: int) -> None:
        self.sweeping, self.show, self.jobs = sweeping, show, jobs
        self.spent: list[float] = []
        self.begun: dict[str, float] = {}
        self.total = len(sweeping.sweep.rows) * len(sweeping.sweep.seeds)
        self.left = len(sweeping.open_cells())
        self.done = self.total - self.left

    def started(self, cell: SweepCell) -> None:
        """Remember when; called from the cell's thread."""
        self.begun[cell.label] = time.monotonic()

    def saved(self, cell: SweepCell) -> None:
        """Show that a training was stopped."""
        self.show(f"{cell.label} · saved")

    def failed(self, cell: SweepCell, why: str) -> None:
        """Show why a cell failed."""
        self._ended(cell)
        self.show(f"{cell.label} · failed: {why}")

    def finished(self, cell: SweepCell) -> None:
        """Show the metrics of a cell."""
        seconds = self._ended(cell)
        self.done += 1
        evaluated = evaluated_of(cell, self.sweeping.evaluates)
        values = {name: value_of(cell, evaluated, name) for name in self.sweeping.sweep.metrics}
        parts = [f"{self.done}/{self.total}  {cell.label}"]
        parts += [
            f"{name.partition('/')[2]} {three(value)}" for name, value in values.items() if value is not None
        ]
        self.show(" · ".join([*parts, duration(seconds), *self._time_left()]))

    def _ended(self, cell: SweepCell) -> float:
        """Seconds that a cell took."""
        self.left -= 1
        self.spent.append(time.monotonic() - self.begun.pop(cell.label))
        return self.spent[-1]

    def _time_left(self) -> list[str]:
        """From the mean time of the runs so far, less what those under way have had."""
        if not self.left:
            return []
        now, mean = time.monotonic(), sum(self.spent) / len(self.spent)
        ahead = self.left * mean - sum(min(mean, now - start) for start in list(self.begun.values()))
        return [f"about {duration(max(ahead, mean / 2) / min(self.jobs, self.left), digits=2)} left"]


def _is_causal(path: Path) -> bool:
    return read_config(open_run(path).config).model.family == "causal"


def _with_teachers(sweep: Sweep, runs: Path) -> Sweep:
    """The sweep with the folder of each teacher in place of its name, as the configs of runs have it."""
    if all(row.config.objective.coupling.teacher is None for row in sweep.rows):
        return sweep  # and torch is not loaded
    from jepalm.generation.teacher import with_teacher

    rows = [
        SweepRow(row.name, {seed: with_teacher(config, runs) for seed, config in row.configs.items()})
        for row in sweep.rows
    ]
    return replace(sweep, rows=rows)
