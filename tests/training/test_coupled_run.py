"""A run with a teacher, from its name to its text: found, read, resumed, refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jepalm.config import read_config
from jepalm.errors import UsageError
from jepalm.generation.loading import load_trained
from jepalm.generation.teacher import find_teacher
from jepalm.run import RunFolder
from jepalm.session import new_session
from jepalm.training.checkpoint import MODEL, find_checkpoint

CAUSAL = {
    "data__name": "windows",
    "model__family": "causal",
    "model__causal__n_layers": 2,
    "model__causal__context_len": 24,
    "model__predictor__n_layers": 4,
    "model__encoder__n_layers": 4,
    "model__decoder__n_layers": 4,
}
STUDENT = {
    "data__name": "windows",
    "model__encoder__kind": "causal",
    "model__encoder__n_layers": 2,
    "model__predictor__noise": "gumbel",
    "model__predictor__intermediate_logits": "true",
    "model__predictor__unmasked": "true",
    "objective__length__kind": "none",
    "objective__generation__weight": 1,
    "objective__intermediate_logits__weight": 1,
    "objective__unmasking__order": "prefix",
    "objective__unmasking__until": 6,
    "objective__coupling__teacher_share": 0.5,
    "training__phases": "[{name: coupled, train: [predictor, decoder]}]",
}


@pytest.fixture(scope="module")
def teacher(train_tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train_tiny(tmp_path_factory.mktemp("taught"), **CAUSAL)


@pytest.fixture(scope="module")
def student(train_tiny: Any, teacher: Any) -> Any:
    return train_tiny(teacher.path.parent, objective__coupling__teacher=teacher.path, **STUDENT)


def test_a_run_logs_its_intermediate_logits_and_matches(student: Any, rows_of: Any) -> None:
    (*_, trained), (*_, held_out) = rows_of(student), rows_of(student, "validation")
    assert 0 < trained["train/term/intermediate_logits"] < 20
    names = {"match_at_1", "match_at_2", "match_at_4", "match_at_8", "match_at_12", "match_prefix"}
    assert {f"validation/{name}" for name in (*names, "intermediate_logits_ce")} <= held_out.keys()


def test_a_frozen_causal_encoder_stays_the_teachers_and_is_in_the_runs_own_checkpoint(
    student: Any, teacher: Any
) -> None:
    own = load_file(find_checkpoint(student).path / MODEL)
    given = load_file(find_checkpoint(teacher).path / MODEL)
    layers = [name for name in given if name.startswith("model.")]
    assert len(layers) > 10
    for name in layers:
        kept = own[name.replace("model.", "model.encoder.causal_encoder.lm.", 1)]
        assert torch.equal(kept, given[name]), name


def test_the_same_seed_is_the_same_run_and_resuming_is_exact(
    train_tiny: Any, resume_tiny: Any, student: Any, teacher: Any, changed_weights: Any, tmp_path: Path
) -> None:
    """A copy of the run is stopped at its first checkpoint, and its teacher lies beside it."""
    settings = {**STUDENT, "objective__coupling__teacher": teacher.path, "optimizer__schedule": "constant"}
    straight = train_tiny(tmp_path, **settings)
    half = train_tiny(tmp_path, **{**settings, "training__steps": 4})
    resume_tiny(half.path, "training.steps=8")
    assert changed_weights(straight, half) == []


def test_the_run_writes_without_its_teacher(
    student: Any, teacher: Any, tmp_path: Path, continue_text: Any
) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(student.path, alone)
    text = student.config.read_text(encoding="utf-8")
    (alone / "config.yaml").write_text(text.replace(str(teacher.path), "gone"), encoding="utf-8")
    trained = load_trained(RunFolder(alone))
    one, same, other = (
        continue_text(trained, "12 abcde", samples=3, temperature=1.0, seed=seed).passages[0].embeddings
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)
    assert not torch.allclose(one[0], one[1])


def test_a_link_is_followed_and_written_down(
    teacher: Any, tiny_config: Any, data_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "latest").symlink_to(teacher.path)
    config = tiny_config(objective__coupling__teacher=tmp_path / "latest", **STUDENT)
    (tmp_path / teacher.name).symlink_to(teacher.path)
    with new_session(config, data_root) as session:
        assert session.config.objective.coupling.teacher == str(tmp_path / teacher.name)


def test_the_newest_finished_run_of_a_name_teaches(tmp_path: Path) -> None:
    for folder, name, status in (
        ("2026-01-01_0000-small", "small", "finished"),
        ("2026-01-02_0000-small", "small", "finished"),
        ("2026-01-03_0000-small", "small", "interrupted"),
        ("2026-01-04_0000-small-two", "small-two", "finished"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.yaml").write_text("")
        (tmp_path / folder / "manifest.json").write_text(json.dumps({"name": name, "status": status}))
    assert find_teacher("small", tmp_path).name == "2026-01-02_0000-small"
    assert find_teacher("2026-01-01_0000-small", tmp_path).name == "2026-01-01_0000-small"


def test_a_missing_teacher_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no finished run shakespeare-ar-small in") as raised:
        find_teacher("shakespeare-ar-small", tmp_path)
    train = f"jepalm train --preset shakespeare-ar-small --run-dir {tmp_path}"
    assert raised.value.hint == f"train it first: {train}"
    with pytest.raises(UsageError, match="no finished run nobody") as raised:
        find_teacher("nobody", tmp_path)
    assert raised.value.hint is not None
    assert "names a causal run" in raised.value.hint


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data__name": "lines"}, "does nothing with lines, whose pairing is lines"),
        ({"model__source_len": 14}, "it reads 24 tokens, and a pair has 25"),
        ({"model__encoder__n_layers": 3}, "needs the sizes of its teacher"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(
    teacher: Any, tiny_config: Any, data_root: Path, changed: dict[str, Any], message: str
) -> None:
    config = tiny_config(**{**STUDENT, "objective__coupling__teacher": teacher.path, **changed})
    with pytest.raises(UsageError, match=message), new_session(config, data_root):
        pass


def test_intermediate_logits_do_not_go_with_hidden_spans(tiny_config: Any, data_root: Path) -> None:
    config = tiny_config(
        data__name="spans", objective__length__kind="none", model__predictor__intermediate_logits="true"
    )
    with pytest.raises(UsageError, match="does not go with hidden spans"), new_session(config, data_root):
        pass


def test_a_run_that_is_not_causal_or_reads_other_text_is_refused(
    teacher: Any, student: Any, trained_run: Any, tiny_config: Any, data_root: Path, tmp_path: Path
) -> None:
    strange = tmp_path / "strange"
    shutil.copytree(teacher.path, strange)
    text = (strange / "tokenizer.json").read_text(encoding="utf-8")
    changed = text.replace('"a"', '"§"')
    assert changed != text
    (strange / "tokenizer.json").write_text(changed, encoding="utf-8")
    lines = tmp_path / "lines"
    shutil.copytree(teacher.path, lines)
    manifest = json.loads((lines / "manifest.json").read_text(encoding="utf-8"))
    manifest["data"]["pairing"] = "lines"
    (lines / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    for path, message in (
        (trained_run.path, "cannot teach: it is no causal run"),
        (student.path, "cannot teach: it is no causal run"),
        (strange, "has another tokenizer"),
        (lines, "its data has pairing lines"),
    ):
        config = tiny_config(objective__coupling__teacher=path, **STUDENT)
        with pytest.raises(UsageError, match=message), new_session(config, data_root):
            pass


def test_the_config_of_a_run_reads_back_with_its_teacher(student: Any, teacher: Any) -> None:
    assert read_config(student.config).objective.coupling.teacher == str(teacher.path)
