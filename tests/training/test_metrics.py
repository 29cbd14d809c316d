import json
import math
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jepalm.run import RunFolder
from jepalm.training.metrics import MetricLog, StepBuffer, drop_after, short


def test_short_keeps_five_significant_digits_and_makes_null_of_what_is_not_finite():
    given = {"a": 123456.789, "b": [1.2345678e-7, 3], "c": "text", "d": float("nan"), "e": -float("inf")}
    assert short(given) == {"a": 123460.0, "b": [1.2346e-7, 3], "c": "text", "d": None, "e": None}


def test_buffer_adds_micro_batches_of_a_step_and_begins_anew_after_take():
    buffer = StepBuffer(["loss", "length"], 3, torch.device("cpu"))
    for parts in ([1.0, 2.0], [4.0]):
        buffer.start()
        for part in parts:
            buffer.add({"length": torch.tensor(10 * part), "loss": torch.tensor(part)})
    assert buffer.take().tolist() == [[3.0, 30.0], [4.0, 40.0]]
    assert buffer.take().tolist() == []
    buffer.start()
    assert buffer.take().tolist() == [[0.0, 0.0]]


def test_a_term_that_a_step_leaves_out_is_missing():
    buffer = StepBuffer(["loss", "latent"], 2, torch.device("cpu"), missing=math.nan)
    for values in ({"loss": 1.0, "latent": 5.0}, {"loss": 2.0}):
        buffer.start()
        for _ in range(2):
            buffer.add({name: torch.tensor(value) for name, value in values.items()})
    first, second = buffer.take().tolist()
    assert first == [2.0, 10.0]
    assert second[0] == 4.0
    assert math.isnan(second[1])


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
    rows = [{"step": 1, "event": "phase"}, {"step": 2, "event": "phase"}, {"step": 2, "kind": "train"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    drop_after(path, 2, and_event="phase")
    assert [json.loads(line) for line in path.read_text().splitlines()] == [rows[0], rows[2]]
