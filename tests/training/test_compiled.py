"""A compiled run learns what an eager one does: backward, autocast, phases, micro batches."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jepalm.training.checkpoint import MODEL, find_checkpoint

SETTINGS = {
    "training__phases": "[{name: autoencoder, share: 3, train: [encoder, decoder], terms: [reconstruction]},"
    " {name: predictor, share: 5, train: [predictor, length], terms: [embedding, length]}]",
    "training__micro_batch_size": 2,
}


def assert_compiled_is_eager(
    train_tiny: Callable[..., Any], rows_of: Callable[..., Any], folder: Path, rel: float, **changed: object
) -> None:
    eager = train_tiny(folder / "eager", hardware__packing="false", **changed)
    compiled = train_tiny(folder / "compiled", hardware__compile="true", **changed)
    assert compiled.read_manifest()["compiled"] is True
    for one, other in zip(rows_of(eager), rows_of(compiled), strict=True):
        for key in ("train/loss", *(key for key in one if key.startswith("train/term/"))):
            assert other[key] == pytest.approx(one[key], rel=rel, abs=1e-4), (one["step"], key)
    weights = [load_file(find_checkpoint(run).path / MODEL) for run in (eager, compiled)]
    for name, value in weights[0].items():
        assert (value - weights[1][name]).norm() <= rel * (1 + value.norm()), name


def test_a_traced_run_learns_what_an_eager_one_does(
    train_tiny: Any, rows_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The graphs of forward and backward, without the code that inductor makes of them."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    assert_compiled_is_eager(train_tiny, rows_of, tmp_path, 1e-4, **SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "rel"), [("fp32", 1e-3), ("bf16", 0.1)])
def test_a_run_compiled_by_inductor_learns_what_an_eager_one_does(
    train_tiny: Any, rows_of: Any, tmp_path: Path, precision: str, rel: float
):
    changed = {**SETTINGS, "hardware__precision": precision}
    assert_compiled_is_eager(train_tiny, rows_of, tmp_path, rel, **changed)
