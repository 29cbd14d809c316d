import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from jepalm.config import OptimizerConfig
from jepalm.errors import JepalmError, UsageError
from jepalm.run import RunFolder
from jepalm.training import checkpoint as checkpoints
from jepalm.training.checkpoint import (
    FILES,
    MODEL,
    OPTIMIZER,
    STATE,
    find_checkpoint,
    load_model,
    load_optimizer,
    mark_best,
    problem,
    prune,
    save_checkpoint,
)
from jepalm.training.optimizer import build_optimizer, named_state

Save = Callable[[int], checkpoints.Checkpoint]


def trained_linear(seed: int = 0) -> tuple[torch.nn.Module, torch.optim.AdamW]:
    torch.manual_seed(seed)
    module = torch.nn.Linear(4, 3)
    optimizer = build_optimizer(module, OptimizerConfig())
    module(torch.randn(2, 4)).square().sum().backward()
    optimizer.step()
    return module, optimizer


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


@pytest.fixture
def save(run: RunFolder) -> Save:
    return lambda step: save_checkpoint(run, *trained_linear(step), {"step": step, "seconds": 1.5})


def names(run: RunFolder) -> list[str]:
    return sorted(entry.name for entry in run.checkpoints.iterdir())


def test_round_trip_is_exact(run: RunFolder):
    module, optimizer = trained_linear()
    saved = save_checkpoint(run, module, optimizer, {"step": 7, "seconds": 1.5})
    other, again = trained_linear(seed=1)
    load_model(saved, other)
    load_optimizer(saved, other, again)
    assert saved.path.name == "step-00000007"
    assert (saved.state().step, saved.state().seconds) == (7, 1.5)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))
    one, two = named_state(optimizer, module), named_state(again, other)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_files_are_tensors_and_json_only(save: Save):
    folder = save(1).path
    assert sorted(path.name for path in folder.iterdir()) == sorted([MODEL, OPTIMIZER, STATE, FILES])
    for name in (STATE, FILES):
        json.loads((folder / name).read_text())
    for name in (MODEL, OPTIMIZER):
        content = (folder / name).read_bytes()
        json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def test_every_file_and_the_folder_are_flushed_before_and_after_the_rename(
    run: RunFolder, save: Save, monkeypatch: pytest.MonkeyPatch
):
    flushed: list[str] = []
    place = "/proc/self/fd/{}" if Path("/proc/self/fd").exists() else "/dev/fd/{}"
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: flushed.append(os.path.realpath(place.format(descriptor)))
    )
    save(1)
    *files, made, folder = [Path(path).name for path in flushed]
    assert files == [MODEL, OPTIMIZER, STATE, FILES]
    assert made.startswith(".step-00000001-")
    assert folder == "checkpoints"
    assert all(Path(path).parent.name.startswith(".step-00000001") for path in flushed[:4])


@pytest.mark.parametrize("name", [MODEL, OPTIMIZER, STATE])
def test_torn_changed_and_missing_files_are_found_and_named(save: Save, name: str):
    folder = save(1).path
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    assert problem(folder) == f"{name} does not match its fingerprint"
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert problem(folder) == f"{name} does not match its fingerprint"
    (folder / name).unlink()
    assert problem(folder) == f"{name} is missing"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model.safetensors": 1'])
def test_an_unreadable_list_of_files_is_found(save: Save, text: str):
    folder = save(1).path
    (folder / FILES).write_text(text)
    assert FILES in problem(folder) or MODEL in problem(folder)


def test_last_is_the_newest_and_goes_back_past_a_damaged_one(run: RunFolder, save: Save):
    save(5)
    newest = save(12)
    assert find_checkpoint(run).step == 12
    (newest.path / MODEL).write_bytes(b"torn")
    assert find_checkpoint(run).step == 5


def test_where_moments_are_not_needed_their_size_is_compared_and_not_their_bytes(run: RunFolder, save: Save):
    moments = save(5).path / OPTIMIZER
    content = moments.read_bytes()
    moments.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert find_checkpoint(run, moments=False).step == 5
    moments.write_bytes(content[:-1])
    with pytest.raises(JepalmError, match="damaged"):
        find_checkpoint(run, moments=False)


def test_a_named_damaged_checkpoint_is_an_error_that_names_file_and_way_out(run: RunFolder, save: Save):
    (save(5).path / MODEL).write_bytes(b"torn")
    with pytest.raises(JepalmError, match=r"step-00000005 is damaged: model.safetensors .*--checkpoint"):
        find_checkpoint(run, "5")


def test_when_every_checkpoint_is_damaged_last_says_so(run: RunFolder, save: Save):
    (save(5).path / MODEL).unlink()
    with pytest.raises(JepalmError, match=r"every checkpoint of .* is damaged"):
        find_checkpoint(run)


@pytest.mark.parametrize("which", ["5", "step-00000005", "best"])
def test_a_checkpoint_is_found_by_step_by_folder_and_as_best(run: RunFolder, save: Save, which: str):
    mark_best(save(5))
    save(12)
    assert find_checkpoint(run, which).step == 5


@pytest.mark.parametrize("which", ["6", "best", "newest", "", ".", "..", "²", "step-5"])
def test_an_unknown_checkpoint_is_a_usage_error_that_lists_those_there_are(
    run: RunFolder, save: Save, which: str
):
    save(5)
    with pytest.raises(UsageError, match=r"there are: last, step-00000005") as caught:
        find_checkpoint(run, which)
    assert caught.value.exit_code == 2


def test_a_run_without_checkpoints_is_a_usage_error(run: RunFolder):
    with pytest.raises(UsageError, match="has no checkpoint yet"):
        find_checkpoint(run)


def test_best_is_a_relative_link(run: RunFolder, save: Save):
    mark_best(save(5))
    mark_best(save(6))
    assert os.readlink(run.checkpoints / "best") == "step-00000006"
    assert names(run) == ["best", "step-00000005", "step-00000006"]


def test_prune_keeps_the_newest_and_the_best(run: RunFolder, save: Save):
    for step in (1, 2, 3, 4, 5):
        saved = save(step)
        if step == 2:
            mark_best(saved)
    prune(run, 2)
    assert names(run) == ["best", "step-00000002", "step-00000004", "step-00000005"]


def test_prune_removes_what_a_killed_process_left(run: RunFolder, save: Save):
    save(1)
    (run.checkpoints / ".step-00000002-999999999.tmp").mkdir()
    prune(run, 2)
    assert names(run) == ["step-00000001"]


def no_space(*arguments: object, **options: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "save_file", no_space)


def torn_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error")

    monkeypatch.setattr(checkpoints, "save_file", write)


def no_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def only_aside(path: Path, target: Path) -> Path:
        return no_space() if re.fullmatch(r"\.step-\d+-\d+\.tmp", path.name) else rename(path, target)  # type: ignore[return-value]

    monkeypatch.setattr(Path, "rename", only_aside)


def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


@pytest.mark.parametrize("fault", [full_disk, torn_write, no_rename, little_room])
@pytest.mark.parametrize("step", [5, 6])
def test_a_save_that_fails_leaves_the_old_ones_whole_and_nothing_else(
    run: RunFolder, save: Save, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., None], step: int
):
    save(5)
    fault(monkeypatch)
    with pytest.raises(JepalmError, match=f"cannot save .*step-0000000{step}"):
        save(step)
    monkeypatch.undo()
    assert names(run) == ["step-00000005"]
    assert problem(run.checkpoints / "step-00000005") == ""


def test_too_little_room_says_how_much_is_needed(run: RunFolder, save: Save, monkeypatch: pytest.MonkeyPatch):
    little_room(monkeypatch)
    with pytest.raises(JepalmError, match=r"\d+ MB needed, \d+ MB free"):
        save(1)


def test_saving_a_step_again_replaces_it(run: RunFolder, save: Save):
    save(5)
    save_checkpoint(run, *trained_linear(9), {"step": 5, "seconds": 2.0})
    assert names(run) == ["step-00000005"]
    assert find_checkpoint(run).state().seconds == 2.0


def test_weights_of_another_config_are_refused(run: RunFolder, save: Save):
    with pytest.raises(JepalmError, match="does not fit the model of its config"):
        load_model(save(1), torch.nn.Linear(5, 3))
