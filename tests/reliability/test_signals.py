"""SIGINT and SIGTERM while a command evaluates, samples, validates or sweeps."""

import json
import os
import shutil
import signal

import pytest
from torture import ended, files_of, forked

from jepalm.run import open_run
from jepalm.training.checkpoint import find_checkpoint, problem

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def signalled(module, name, number):
    """Replace a function of a module by one that sends its own process a signal, once, and then is called."""
    call = getattr(module, name)

    def interrupted(*given, **options):
        setattr(module, name, call)
        os.kill(os.getpid(), number)
        return call(*given, **options)

    setattr(module, name, interrupted)


@pytest.fixture
def command(jepalm_command, tmp_path):
    """Run a command in a forked process after a change of it: exit code and standard error."""

    def run(change, *arguments, cwd):
        def work():
            change()
            code, _, err = jepalm_command(*arguments, cwd=cwd)
            (tmp_path / "said").write_text(err)
            os._exit(code)

        (tmp_path / "said").write_text("")
        return ended(forked(work)), (tmp_path / "said").read_text()

    return run


@pytest.fixture
def work(trained_run, data_root, tmp_path):
    """A working directory with a finished run and its data."""
    folder = tmp_path / "work"
    shutil.copytree(trained_run.path, folder / "runs" / trained_run.name, symlinks=True)
    (folder / "runs" / "latest").symlink_to(trained_run.name)
    (folder / "data").symlink_to(data_root)
    return folder


@pytest.mark.parametrize("number", SIGNALS)
def test_an_evaluation_leaves_everything_as_it_was(command, work, number):
    from jepalm.evaluation import evaluate as module

    before = files_of(work)
    change = lambda: signalled(module, "evaluate_texts", number)  # noqa: E731
    code, said = command(change, "evaluate", "runs/latest", "--prompts", "4", "--split", "train", cwd=work)
    assert (code, said) == (128 + number, "stopped (the same command begins again)\n")
    assert files_of(work) == before


def test_generating_ends_at_once(command, work):
    from jepalm.generation import writers as module

    change = lambda: signalled(module, "writer_for", signal.SIGTERM)  # noqa: E731
    code, said = command(change, "generate", "1 ab", cwd=work)
    assert (code, said) == (143, "stopped (the same command begins again)\n")


def test_the_second_signal_ends_an_evaluation_without_unwinding(command, work):
    from jepalm.evaluation import evaluate as module

    def change():
        def stays(*given):
            try:
                os.kill(os.getpid(), signal.SIGINT)
            finally:  # the first signal unwinds to here, the second nowhere
                os.kill(os.getpid(), signal.SIGINT)
                os._exit(1)

        module.evaluate_texts = stays

    code, said = command(change, "evaluate", "runs/latest", "--prompts", "4", "--split", "train", cwd=work)
    assert (code, said) == (130, "")


def test_a_training_that_validates_is_saved_and_names_the_command(command, tiny_settings, work):
    """In the midst of its samples: they are written first."""
    from jepalm.evaluation.validation import held_out as module

    arguments = ("train", "--preset", "nano", *tiny_settings(), "--run-dir", "new runs")
    code, said = command(lambda: signalled(module.HeldOut, "__call__", signal.SIGTERM), *arguments, cwd=work)
    assert code == 143
    run = open_run((work / "new runs" / "latest").resolve())
    path = f"new runs/{run.name}"
    assert said == f'saved step 4 (go on with: jepalm train --resume "{path}")\n'
    assert problem(find_checkpoint(run).path) == ""
    assert len(run.samples.read_text().splitlines()) == 2


def test_a_sweep_saves_what_it_trains_and_names_itself(in_this_process, command, tiny_settings, work):
    """The signal comes before its first training ends; the second does not begin."""
    from jepalm.sweep import running as module

    (work / "a lab.yaml").write_text(
        f"preset: nano\nset: {json.dumps(tiny_settings(training__steps=4))}\nseeds: [0, 1]\n"
        "metrics: [validation/r2]\nrows: {base: }\n"
    )
    change = lambda: signalled(module.Commands, "run", signal.SIGINT)  # noqa: E731
    code, said = command(change, "sweep", "a lab.yaml", cwd=work)
    assert code == 130
    assert said.startswith("stopped and saved: 1 of 2 runs are done")
    assert said.endswith('(go on with: jepalm sweep "a lab.yaml")\n')
    code, said = command(lambda: None, "sweep", "a lab.yaml", cwd=work)
    assert (code, said) == (0, "")
