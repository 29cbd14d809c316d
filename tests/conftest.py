"""A tiny corpus, a tiny model and a tiny trained run, shared by all tests."""

import contextlib
import gc
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


def pytest_collection_finish() -> None:
    """Collect no garbage among what was imported, which stays: that took a third of the tests' time."""
    gc.freeze()


def pytest_unconfigure() -> None:
    """The same for what came since, as the process ends."""
    gc.freeze()


SETTINGS = {
    "data.name": "lines",
    "model.dim": "16",
    "model.n_heads": "2",
    "model.ffn_mult": "2",
    "model.source_len": "12",
    "model.target_len": "12",
    "model.encoder.n_layers": "1",
    "model.predictor.n_layers": "1",
    "model.decoder.n_layers": "1",
    "optimizer.warmup_steps": "2",
    "training.steps": "8",
    "training.steps_per_epoch": "null",
    "training.batch_size": "4",
    "training.log_every": "2",
    "training.validate_every": "4",
    "training.checkpoint_every": "4",
    "training.validation_batches": "1",
    "training.samples": "2",
    "hardware.device": "cpu",
    "hardware.precision": "fp32",
    "hardware.threads": "1",
}


def run_command(*arguments: Any, cwd: Any, stdin: bytes = b"", **env: str) -> tuple[int, str, str]:
    """Run the command line in this process as the shell would: (exit code, stdout, stderr).

    The console reads COLUMNS when it is made, which may be long before.
    """
    import jepalm.cli
    from jepalm.cli.console import console

    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        mock.patch.object(sys, "argv", ["jepalm", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        mock.patch.dict(os.environ, env),
        mock.patch.object(console, "_width", int(env["COLUMNS"]) if "COLUMNS" in env else None),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            jepalm.cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="session")
def jepalm_command() -> Callable[..., tuple[int, str, str]]:
    """The command line as a function."""
    return run_command


@pytest.fixture(scope="session")
def no_hub(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The library `datasets` reaches no hub and keeps its files in a temporary folder."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    os.environ["HF_HOME"] = str(tmp_path_factory.mktemp("hub"))
    import datasets  # which reads the environment once

    assert datasets.config.HF_HUB_OFFLINE


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data: `lines` (28 training pairs, so 7 steps of 4 are a pass), `windows` and `spans`."""
    from jepalm.data.job import Job
    from jepalm.data.prepared import Origin, Request
    from jepalm.data.text.preparing import prepare_text
    from jepalm.data.text.reading import RawText

    root = tmp_path_factory.mktemp("data")
    text = "".join(f"{number} {'abcde' * 2}"[: 2 + number * 5 % 10] + "\n" for number in range(37))
    for pairing in ("lines", "windows", "spans"):
        asked = Request(pairing=pairing, tokenizer="char", alphabet="data", split=(80.0, 10.0, 10.0))
        job = Job(root, pairing, "text", Origin(source="given text", where=["text.txt"]), "none", asked)
        prepare_text(job, RawText(content=(text * (1 if pairing == "lines" else 4)).encode()))
    return root


@pytest.fixture(scope="session")
def tiny_settings() -> Callable[..., list[str]]:
    """`section.key=value` of a tiny run, changed by keyword with `__` for the dots."""

    def settings(**changed: object) -> list[str]:
        given = {key.replace("__", "."): str(value) for key, value in changed.items()}
        return [f"{key}={value}" for key, value in {**SETTINGS, **given}.items()]

    return settings


@pytest.fixture(scope="session")
def tiny_config(tiny_settings: Callable[..., list[str]]) -> Callable[..., Any]:
    """A resolved tiny config."""
    from jepalm.config import resolve

    return lambda **changed: resolve("nano", overrides=tiny_settings(**changed))


@pytest.fixture(scope="session")
def train_tiny(data_root: Path, tiny_config: Callable[..., Any]) -> Callable[..., Any]:
    """Train a tiny run under a folder and return its run folder."""
    from jepalm.session import new_session
    from jepalm.training.estimate import Estimate

    def train(runs: Path, **changed: object) -> Any:
        with new_session(tiny_config(**changed), data_root) as session:
            run = session.open_folder(runs, None, Estimate(0.0, 0, 0, 0))
            session.train(run, None)
        return run

    return train


@pytest.fixture(scope="session")
def resume_tiny(data_root: Path) -> Callable[..., None]:
    """Go on with a run, with changed settings."""
    from jepalm.session import resumed_session
    from jepalm.training.estimate import Estimate

    def resume(path: Path, *settings: str) -> None:
        with resumed_session(path, {}, list(settings), data_root) as session:
            run = session.open_folder(path.parent, None, Estimate(0.0, 0, 0, 0))
            session.train(run, None)

    return resume


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory, train_tiny: Callable[..., Any]) -> Any:
    """A finished run of 8 steps; read it, do not write to it."""
    return train_tiny(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def rows_of() -> Callable[..., list[dict[str, Any]]]:
    """Rows of a run's `metrics.jsonl`, of one kind; with or without what a clock measured."""
    clock = {"time", "speed/steps_per_s", "speed/tokens_per_s"}

    def rows(run: Any, kind: str = "train", *, timed: bool = True) -> list[dict[str, Any]]:
        found = [json.loads(text) for text in run.metrics.read_text(encoding="utf-8").splitlines()]
        left_out = set() if timed else clock
        return [{key: row[key] for key in row if key not in left_out} for row in found if row["kind"] == kind]

    return rows


@pytest.fixture(scope="session")
def changed_weights() -> Callable[[Any, Any], list[str]]:
    """Names of the weights that are not the same to the bit at the ends of two runs."""
    import torch
    from safetensors.torch import load_file

    from jepalm.training.checkpoint import MODEL, find_checkpoint

    def names(run: Any, other: Any) -> list[str]:
        found, expected = (load_file(find_checkpoint(one).path / MODEL) for one in (run, other))
        assert found.keys() == expected.keys()
        return [name for name in found if not torch.equal(found[name], expected[name])]

    return names


@pytest.fixture
def random_objective(tiny_config: Callable[..., Any]) -> Callable[..., Any]:
    """An objective of a tiny config whose weights are all random, also those that start at zero."""
    import torch

    from jepalm.objective.jepalm import JepalmObjective

    def build(
        seed: int = 0, *, packing: bool = False, attention: str = "auto", std: float = 0.2, **changed: object
    ) -> Any:
        config = tiny_config(**changed)
        built = JepalmObjective(config.model, config.objective, 11, packing=packing, attention=attention)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.copy_(std * torch.randn(parameter.shape, generator=generator))
        return built

    return build


@pytest.fixture
def make_batch() -> Callable[..., Any]:
    """A batch of random texts with the given source and target lengths."""
    import torch

    from jepalm.data.batches import Batch, Tokens

    def view(lengths: list[int], generator: torch.Generator) -> Tokens:
        ids = torch.randint(3, 11, (len(lengths), max(lengths)), generator=generator)
        sizes = torch.tensor(lengths)
        return Tokens(ids * (torch.arange(max(lengths)) < sizes[:, None]), sizes)

    def build(
        sources: tuple[int, ...] = (5, 1, 12, 7), targets: tuple[int, ...] = (9, 2, 4, 12), seed: int = 1
    ) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        source, target = view(list(sources), generator), view(list(targets), generator)
        return Batch(source, target, None, len(sources), sum(targets))

    return build


@pytest.fixture
def in_this_process(monkeypatch):
    """Run the commands of a sweep in this process, one after another, and give torch its threads back."""
    from concurrent.futures import Future

    import torch

    from jepalm.errors import JepalmError
    from jepalm.sweep import commands, running

    def call(self, arguments, threads, cores):
        code, _, err = run_command(*arguments, cwd=os.getcwd())
        return code, err

    class OneAfterAnother(running.ThreadPoolExecutor):
        def submit(self, job, *given):
            future = Future()
            try:
                future.set_result(job(*given))
            except JepalmError as error:
                future.set_exception(error)
            return future

    threads = torch.get_num_threads()
    monkeypatch.setattr(commands.Commands, "call", call)
    monkeypatch.setattr(running, "ThreadPoolExecutor", OneAfterAnother)
    monkeypatch.setattr(running, "as_completed", list)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def continue_text() -> Any:
    """Write after a prompt as the command does: `text` of each sample, `nfe` of all, `passages`."""
    from jepalm.generation.prompts import read_prompt
    from jepalm.generation.writer import Prompt
    from jepalm.generation.writers import WritingOptions, writer_for

    def write(trained: Any, prompt: str, *, samples: int = 1, seed: int = 0, **options: Any) -> Any:
        prompts = [Prompt(read_prompt(trained, prompt).ids)] * samples
        made = writer_for(trained, WritingOptions(**options)).write(prompts, seed=seed)
        text = [trained.tokenizer.decode(ids) for ids in made.ids]
        return SimpleNamespace(text=text, nfe=made.batch_nfe, passages=made.passages)

    return write
