import json
import math
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jepalm.objective.terms import Losses
from jepalm.run import RunFolder
from jepalm.training.distributed import Processes
from jepalm.training.metrics import MetricLog, RecentSteps, drop_after, short


def test_short_keeps_five_significant_digits_and_makes_null_of_what_is_not_finite():
    given = {"a": 123456.789, "b": [1.2345678e-7, 3], "c": "text", "d": float("nan"), "e": -float("inf")}
    assert short(given) == {"a": 123460.0, "b": [1.2346e-7, 3], "c": "text", "d": None, "e": None}


def losses(loss: float, **terms: float) -> Losses:
    """Losses of which every term weighs 2."""
    values = {name: torch.tensor(value) for name, value in terms.items()}
    return Losses(torch.tensor(loss), values, dict.fromkeys(values, 2.0))


@pytest.fixture
def recent() -> RecentSteps:
    buffer = RecentSteps(3, torch.device("cpu"))
    buffer.count({"embedding": 1.0, "length": 1.0})
    return buffer


def test_micro_batches_of_a_step_are_added_and_taking_them_begins_anew(recent: RecentSteps):
    for parts in ([1.0, 2.0], [4.0]):
        recent.start(target_tokens=10)
        for part in parts:
            recent.add(losses(part, length=10 * part, embedding=part))
    assert recent.last(["length"]).tolist() == [40.0]
    taken = recent.take(Processes())
    assert taken.raw.tolist() == [[3.0, 3.0, 30.0], [4.0, 4.0, 40.0]]
    assert taken.by_step() == {"embedding": [3.0, 4.0], "length": [30.0, 40.0]}
    assert (taken.weights, taken.weighted, taken.target_tokens) == ([2.0, 2.0], [7.0, 70.0], 20)
    assert len(recent) == len(recent.take(Processes()).raw) == 0


def test_a_term_that_steps_leave_out_has_no_value_there(recent: RecentSteps):
    for values in ({"embedding": 1.0, "length": 5.0}, {"embedding": 2.0}):
        recent.start(0)
        for _ in range(2):
            recent.add(losses(1.0, **values))
    taken = recent.take(Processes())
    first, second = taken.by_step()["length"]
    assert first == 10.0
    assert math.isnan(second)
    assert taken.metrics([])["train/term/length"] == 10.0
    assert taken.metrics([])["train/share/length"] == pytest.approx(10 / 16)


def test_a_term_that_does_not_count_has_weight_and_share_0_and_no_value(recent: RecentSteps):
    recent.start(0)
    recent.add(losses(4.0, embedding=1.0, length=3.0))
    assert recent.take(Processes()).metrics(["embedding", "kl", "length"]) == {
        "train/loss": 4.0,
        "train/term/embedding": 1.0,
        "train/term/length": 3.0,
        "train/weight/embedding": 2.0,
        "train/weight/length": 2.0,
        "train/weight/kl": 0.0,
        "train/share/embedding": 0.25,
        "train/share/length": 0.75,
        "train/share/kl": 0.0,
    }


def test_drop_after_removes_later_rows_and_a_torn_last_line(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 2, "late": 1}\n{"step": 1, "to')
    drop_after(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 2, "late": 1}\n'


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_drop_after_keeps_rows_whose_text_holds_a_line_separator(tmp_path: Path, separator: str):
    path = tmp_path / "samples.jsonl"
    text = json.dumps({"step": 1, "source": f"a{separator}b"}, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")
    drop_after(path, 2)
    assert path.read_text(encoding="utf-8") == text


def test_drop_after_leaves_a_missing_file_missing(tmp_path: Path):
    drop_after(tmp_path / "none.jsonl", 2)
    assert not (tmp_path / "none.jsonl").exists()


def test_rows_go_to_the_file_and_numbers_with_a_slash_to_tensorboard(tmp_path: Path):
    log = MetricLog(RunFolder(tmp_path))
    log.write("train", 2, {"epoch": 0.5, "train/loss": 1.23456789, "batches": {"length": [1.0]}})
    log.close()
    row = {"kind": "train", "step": 2, "epoch": 0.5, "train/loss": 1.2346, "batches": {"length": [1.0]}}
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == row
    board = EventAccumulator(str(tmp_path / "tb")).Reload()
    assert board.Tags()["scalars"] == ["train/loss"]
    assert [(event.step, round(event.value, 4)) for event in board.Scalars("train/loss")] == [(2, 1.2346)]


def test_a_row_is_on_disk_before_the_log_is_closed(tmp_path: Path):
    log = MetricLog(RunFolder(tmp_path))
    log.write("event", 1, {"event": "resumed"})
    log.sample(1, "a", "b", "c")
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["event"] == "resumed"
    sample = {"step": 1, "source": "a", "target": "b", "generated": "c"}
    assert json.loads((tmp_path / "samples.jsonl").read_text()) == sample
    log.close()


def test_drop_after_removes_an_event_that_comes_again_at_the_step(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    rows = [
        {"step": 1, "kind": "event", "event": "phase"},
        {"step": 2, "kind": "event", "event": "phase"},
        {"step": 2, "kind": "train"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    drop_after(path, 2, and_events=("phase",))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [rows[0], rows[2]]
