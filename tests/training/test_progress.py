import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from jepalm.config import TrainingConfig
from jepalm.run import RunFolder
from jepalm.training.progress import TrainingProgress, train_line, validation_line
from jepalm.training.schedule import Schedule

TRAIN = {
    "train/loss": 312.4,
    "train/term/reconstruction": 0.00312,
    "train/term/length": 1204.0,
    "train/share/reconstruction": 0.0,
    "train/share/length": 0.4049,
    "speed/steps_per_s": 12.34,
    "speed/tokens_per_s": 5500.0,
}
HELD_OUT = {
    "validation/r2": 0.236,
    "validation/generation_ce": 2.613,
    "validation/reconstruction_ce": 0.0311,
    "validation/effective_rank": 170.6,
}


def test_train_line_has_terms_and_shares():
    assert train_line(TRAIN) == "loss 312 = reconstruction 0.00312 (0 %) + length 1,200 (40 %)"


def test_validation_line_shows_the_sample_on_one_line_and_no_control_characters():
    line = validation_line(HELD_OUT, 256, "And\nthe\x1b[31m the\x07\n")
    expected = "validation: R2 0.24 · generation CE 2.61 · reconstruction CE 0.0311 · rank 171/256"
    assert line == f'{expected} · sample "And the [31m the"'


def shown(tmp_path: Path, terminal: bool, width: int = 100) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=width, soft_wrap=True)
    with TrainingProgress(console, RunFolder(tmp_path), Schedule(10, 5, 5, 5)) as progress:
        progress.validated(5, "validation: [/red] [x]")
        progress.trained(10, TRAIN)
    return out.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_brackets_in_a_sample_are_text(tmp_path: Path, terminal: bool):
    assert "[/red] [x]" in shown(tmp_path, terminal)


def test_a_narrow_terminal_shows_every_number(tmp_path: Path):
    live = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown(tmp_path, True, width=40)).split("\r")[-1]
    assert max(map(len, live.splitlines())) <= 40
    words = "epoch 2/2 · step 10/10 · 12.3 steps/s · 5.5 k tok/s loss 312 = reconstruction 0.00312 (0 %)"
    assert words in " ".join(live.split())


def test_the_last_step_is_shown_on_plain_output_and_in_the_log(tmp_path: Path):
    line = "12.3 steps/s · 5.5 k tok/s"
    assert f"epoch 2/2 · step 10/10 · {line} · loss" in shown(tmp_path, terminal=False)
    assert f"step 10 · {line}" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_time_left_counts_each_phase_at_its_own_speed(tmp_path: Path):
    out = io.StringIO()
    phases = [{"name": "quick", "steps": 400}, {"name": "slow"}]
    schedule = Schedule.of(TrainingConfig.model_validate({"steps": 1000, "phases": phases}), 1000)
    seconds = {"quick": 0.01, "slow": 0.04}
    console = Console(file=out, width=200)
    with TrainingProgress(console, RunFolder(tmp_path), schedule, seconds) as progress:
        progress._last_plain = float("-inf")
        progress.trained(100, {**TRAIN, "speed/steps_per_s": 20.0})
    # 300 steps at 0.05 s, and 600 that are four times as long
    assert "quick · epoch 1/1 · step 100/1,000" in out.getvalue()
    assert "2.2 min left" in out.getvalue()
