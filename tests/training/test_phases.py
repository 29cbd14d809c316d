"""Phases through session, trainer and checkpoints: who stands still, what is written, exact resumption."""

import io
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from jepalm.errors import UsageError
from jepalm.run import RunFolder
from jepalm.session import new_session, resumed_session
from jepalm.training.checkpoint import MODEL, OPTIMIZER, find_checkpoint

Tensors = dict[str, torch.Tensor]
BOUNDARY = 3
TWO = [
    {"name": "autoencoder", "share": 3, "train": ["encoder", "decoder"], "terms": ["reconstruction"]},
    {"name": "predictor", "share": 5, "train": ["predictor", "length"], "terms": ["embedding", "length"]},
]
EVERYTHING = {
    "model__dropout": 0.2,
    "objective__generation__weight": 0.5,
    "objective__targets__encoder": "ema",
    "objective__regularizer__kind": "sigreg",
    "training__micro_batch_size": 2,
}


def phased(*phases: dict[str, Any], **changed: object) -> dict[str, object]:
    """Settings of 8 steps in phases, each saved at 2, 3, 4, 6 and 8 where the first has 3."""
    every = {"training__checkpoint_every": 2, "training__validate_every": 2, "training__keep": 9}
    return {"training__phases": json.dumps(list(phases or TWO)), **every, **changed}


def saved(run: RunFolder, step: int, what: str = MODEL) -> Tensors:
    return load_file(find_checkpoint(run, str(step)).path / what)


def part(tensors: Tensors, name: str) -> Tensors:
    return {key: value for key, value in tensors.items() if key.startswith(f"model.{name}.")}


def same(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def back_at(run: RunFolder, step: int, folder: Path) -> RunFolder:
    """A copy of a finished run as it was when a step was saved, with what was written since."""
    copy = RunFolder(shutil.copytree(run.path, folder, symlinks=True))
    for checkpoint in copy.checkpoints.glob("step-*"):
        if int(checkpoint.name.removeprefix("step-")) > step:
            shutil.rmtree(checkpoint)
    return copy


@pytest.fixture(scope="module")
def two(train_tiny: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run of two phases; read it, do not write to it."""
    return train_tiny(tmp_path_factory.mktemp("two"), **phased())


@pytest.mark.parametrize("changed", [{}, {"model__dropout": 0.2, "objective__weighting": "ema"}])
def test_one_phase_of_everything_is_the_plain_run(
    train_tiny: Any, rows_of: Any, tmp_path: Path, changed: dict[str, Any]
):
    plain = train_tiny(tmp_path / "plain", **changed)
    one = train_tiny(tmp_path / "one", training__phases="[{name: all}]", **changed)
    for what in (MODEL, OPTIMIZER):
        assert same(saved(plain, 8, what), saved(one, 8, what))
    for kind in ("train", "validation"):
        rows = rows_of(one, kind, timed=False)
        assert [row.pop("phase", "all") for row in rows] == ["all"] * len(rows)
        assert rows == rows_of(plain, kind, timed=False)


def test_parts_that_do_not_train_stand_still_and_have_no_moments(two: Any, data_root: Path, tiny_config: Any):
    with new_session(tiny_config(**phased()), data_root) as session:
        start = {key: value.clone() for key, value in session.objective.state_dict().items()}
    middle, end = saved(two, BOUNDARY), saved(two, 8)
    for name in ("encoder", "decoder"):
        assert not same(part(start, name), part(middle, name))
        assert same(part(middle, name), part(end, name))
    for name in ("predictor", "length"):
        assert same(part(start, name), part(middle, name))
        assert not same(part(middle, name), part(end, name))
    learned = [{key.split(".")[1] for key in saved(two, step, OPTIMIZER)} for step in (BOUNDARY, 8)]
    assert learned == [{"encoder", "decoder"}, {"predictor", "length"}]


def test_a_part_that_goes_on_keeps_its_moments_and_one_that_begins_has_fresh_ones(
    train_tiny: Any, tmp_path: Path
):
    phases = [{"name": "decoder", "share": 3, "train": ["decoder"]}, {"name": "all", "share": 5}]
    run = train_tiny(tmp_path, **phased(*phases))
    steps = {key: float(value) for key, value in saved(run, 8, OPTIMIZER).items() if key.endswith("/step")}
    assert {value for key, value in steps.items() if key.startswith("model.decoder")} == {8.0}
    assert {value for key, value in steps.items() if not key.startswith("model.decoder")} == {5.0}


@pytest.mark.parametrize("step", [2, BOUNDARY, 6])
@pytest.mark.parametrize("weighting", ["fixed", "uncertainty", "ema"])
def test_going_on_within_and_between_phases_changes_no_bit(
    train_tiny: Any, resume_tiny: Any, rows_of: Any, tmp_path: Path, weighting: str, step: int
):
    """All options on; the second phase weighs two terms, one of them trained in the first, too."""
    first, second = ["reconstruction", "length"], {"embedding": 2, "length": 1}
    phases = [
        {"name": "a", "share": 3, "train": ["encoder", "decoder", "length"], "terms": first},
        {"name": "b", "share": 5, "train": ["predictor", "length"], "terms": second},
    ]
    changed = {**EVERYTHING, "objective__weighting": weighting}
    straight = train_tiny(tmp_path / "straight", **phased(*phases, **changed))
    resumed = back_at(straight, step, tmp_path / "resumed")
    resume_tiny(resumed.path)
    for what in (MODEL, OPTIMIZER):
        assert same(saved(straight, 8, what), saved(resumed, 8, what))
    for kind in ("train", "validation"):
        assert rows_of(straight, kind, timed=False) == rows_of(resumed, kind, timed=False)
    begun = [(row["phase"], row["step"]) for row in rows_of(resumed, "event") if row["event"] == "phase"]
    assert begun == [("a", 0), ("b", BOUNDARY)]
    assert resumed.read_manifest()["best"] == straight.read_manifest()["best"]


def test_rows_say_the_phase_and_hold_the_terms_that_count(two: Any, rows_of: Any):
    rows = rows_of(two)
    assert [(row["step"], row["phase"]) for row in rows] == [
        (2, "autoencoder"), (3, "autoencoder"), (4, "predictor"), (6, "predictor"), (8, "predictor")
    ]  # fmt: skip
    for row in rows:
        counted = {"reconstruction"} if row["phase"] == "autoencoder" else {"embedding", "length"}
        assert {key.removeprefix("train/term/") for key in row if key.startswith("train/term/")} == counted
        assert row["batches"].keys() == counted
        for name in ("reconstruction", "embedding", "length"):
            assert (row[f"train/share/{name}"] > 0) == (row[f"train/weight/{name}"] > 0) == (name in counted)
        encoder = {key for key in row if key.startswith("train/grad_norm_encoder/")}
        assert encoder == ({"train/grad_norm_encoder/reconstruction"} if row["step"] <= BOUNDARY else set())


def test_an_event_says_where_each_phase_begins(two: Any, rows_of: Any):
    events = [
        (row["event"], row["step"], row.get("phase"), row.get("index")) for row in rows_of(two, "event")
    ]
    assert events == [
        ("phase", 0, "autoencoder", 0), ("phase", BOUNDARY, "predictor", 1), ("finished", 8, None, None)
    ]  # fmt: skip


def test_a_phase_ends_with_a_validation_of_its_own_terms_and_a_checkpoint(two: Any, rows_of: Any):
    rows = {row["step"]: row for row in rows_of(two, "validation")}
    assert sorted(rows) == [2, 3, 4, 6, 8]
    middle, end = rows[BOUNDARY], rows[8]
    assert middle["validation/loss"] == middle["validation/reconstruction_ce"]
    assert end["validation/loss"] == pytest.approx(
        end["validation/embedding"] + end["validation/length_mse"], rel=1e-4
    )


def test_best_is_of_the_last_phase_though_losses_before_were_lower(two: Any, rows_of: Any):
    losses = {row["step"]: row["validation/loss"] for row in rows_of(two, "validation")}
    late = {step: loss for step, loss in losses.items() if step > BOUNDARY}
    assert min(losses, key=losses.__getitem__) <= BOUNDARY
    assert find_checkpoint(two, "best").step == min(late, key=late.__getitem__)


def test_each_phase_has_its_own_schedule(train_tiny: Any, rows_of: Any, tmp_path: Path):
    phases = [
        {"name": "a", "share": 3, "schedule": "constant"},
        {"name": "b", "share": 5, "lr": 0.5, "min_lr": 0.1, "warmup_steps": 1},
    ]
    run = train_tiny(tmp_path, **phased(*phases, training__log_every=1, optimizer__lr=0.01))
    rates = [row["train/lr"] for row in rows_of(run)]
    falling = [0.1 + 0.2 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    # 2 steps of warm-up as in the optimizer, then constant; 1 step of warm-up, then cosine from lr
    assert rates == pytest.approx([0.01 / 3, 0.02 / 3, 0.01, 0.25, *falling], rel=1e-4)


def test_a_longer_run_goes_on_with_its_last_phase_and_keeps_the_first(
    two: Any, resume_tiny: Any, tmp_path: Path, rows_of: Any
):
    longer = back_at(two, 8, tmp_path / "longer")
    resume_tiny(longer.path, "training.steps=16")
    begun = [row["step"] for row in rows_of(longer, "event") if row["event"] == "phase"]
    assert begun == [0, BOUNDARY]
    assert longer.read_manifest()["step"] == 16
    assert same(part(saved(two, BOUNDARY), "encoder"), part(saved(longer, 16), "encoder"))


def test_a_phase_more_may_follow(two: Any, resume_tiny: Any, tmp_path: Path, rows_of: Any):
    longer = back_at(two, 8, tmp_path / "longer")
    resume_tiny(longer.path, "training.steps=10", f"training.phases={json.dumps([*TWO, {'name': 'all'}])}")
    begun = [(row["phase"], row["step"]) for row in rows_of(longer, "event") if row["event"] == "phase"]
    assert begun == [("autoencoder", 0), ("predictor", BOUNDARY), ("all", 8)]


@pytest.mark.parametrize(
    ("step", "setting", "message"),
    [
        (8, "training.phases.0.lr=0.1", "phase autoencoder cannot change on resuming: it began at step 0"),
        (8, "training.phases.1.share=9", "phase predictor cannot change on resuming: it began at step 3"),
        (8, "training.phases=[]", "phase autoencoder cannot change on resuming"),
        (2, "training.steps=1", "1 step is too few for the 2 phases"),
    ],
)
def test_what_was_trained_cannot_change(
    two: Any, data_root: Path, tmp_path: Path, step: int, setting: str, message: str
):
    copy = back_at(two, step, tmp_path / "copy")
    with pytest.raises(UsageError, match=message), resumed_session(copy.path, {}, [setting], data_root):
        pass


def test_a_phase_to_come_may_change(two: Any, data_root: Path, tmp_path: Path):
    copy = back_at(two, BOUNDARY, tmp_path / "copy")
    settings = ["training.phases.1.terms=[embedding]", "training.phases.1.train=[predictor]"]
    with resumed_session(copy.path, {}, settings, data_root) as session:
        assert session.config.training.phases[1].terms == ("embedding",)
        assert [phase.first for phase in session.schedule.phases] == [0, BOUNDARY]


def test_a_plain_run_takes_no_phases_on_resuming(trained_run: Any, data_root: Path):
    settings = ["training.phases=[{name: all}]", "training.steps=20"]
    with (
        pytest.raises(UsageError, match="phases cannot change on resuming: the run has none"),
        resumed_session(trained_run.path, {}, settings, data_root),
    ):
        pass


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ({"train": ["encodr"]}, r"trains encodr, which is no part of the model \(did you mean encoder\?\)"),
        (
            {"terms": ["lenght"]},
            r"counts lenght, which is no term of the objective \(did you mean length\?\)",
        ),
        ({"terms": ["generation"]}, "phase a has no term that counts"),
        ({"terms": {"generation": 1}}, r"weighs generation, which objective\.generation leaves out"),
    ],
)
def test_names_that_a_model_does_not_have_are_one_line_before_anything_is_written(
    tiny_config: Any, data_root: Path, phase: dict[str, Any], message: str
):
    settings = phased({"name": "a", **phase})
    with pytest.raises(UsageError, match=message) as caught, new_session(tiny_config(**settings), data_root):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        (
            {"train": ["encoder", "predictor"], "terms": ["embedding"]},
            "trains encoder, but none of its terms",
        ),
        ({"train": ["predictor"], "terms": ["reconstruction"]}, "phase a learns nothing from its terms"),
    ],
)
def test_a_part_that_no_term_reaches_is_told_before_anything_is_written(
    tiny_config: Any, data_root: Path, phase: dict[str, Any], message: str
):
    with (
        new_session(tiny_config(**phased({"name": "a", **phase})), data_root) as session,
        pytest.raises(UsageError, match=message),
    ):
        session.cost()


def test_parts_and_terms_that_a_configuration_leaves_out_may_be_named(
    train_tiny: Any, tmp_path: Path, rows_of: Any
):
    run = train_tiny(tmp_path, **phased(objective__length__kind="none"))
    assert rows_of(run)[-1]["batches"].keys() == {"embedding"}


def test_cost_knows_each_phase_that_is_left_and_progress_names_it(
    tiny_config: Any, data_root: Path, tmp_path: Path
):
    out = io.StringIO()
    with new_session(tiny_config(**phased()), data_root) as session:
        cost = session.cost()
        run = session.open_folder(tmp_path, None, cost)
        session.train(run, Console(file=out, width=300), cost)
    seconds = cost.seconds_by_phase
    assert list(seconds) == ["autoencoder", "predictor"]
    assert cost.seconds_per_step == pytest.approx((3 * seconds["autoencoder"] + 5 * seconds["predictor"]) / 8)
    assert "predictor · epoch 2/2 · step 8/8" in out.getvalue()
    copy = back_at(run, 4, tmp_path / "copy")
    with resumed_session(copy.path, {}, [], data_root) as session:
        assert list(session.cost().seconds_by_phase) == ["predictor"]


def test_parts_that_no_term_of_a_plain_run_teaches_are_told(tiny_config: Any, data_root: Path):
    untaught = tiny_config(objective__reconstruction__weight=0, objective__generation__weight=1)
    for config, parts in ((tiny_config(), ()), (untaught, ("encoder",))):
        with new_session(config, data_root) as session:
            assert session.cost().untaught == parts
