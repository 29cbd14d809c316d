"""Trained models that many tests read; do not change them."""

from typing import Any

import pytest

from jepalm.config import HardwareConfig
from jepalm.generation.loading import TrainedModel, load_trained

CPU = HardwareConfig(device="cpu", precision="fp32", threads=1)


@pytest.fixture(scope="session")
def lines(trained_run: Any) -> TrainedModel:
    """A model of lines."""
    return load_trained(trained_run, "last", CPU)


@pytest.fixture(scope="session")
def windows(train_tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """A model of windows."""
    run = train_tiny(tmp_path_factory.mktemp("windows"), data__name="windows", training__steps=1)
    return load_trained(run, "last", CPU)
