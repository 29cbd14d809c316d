"""What the tests of the commands share."""

import pytest

TINY = (
    "--batch-size=4",
    "--steps=4",
    "model.dim=16",
    "model.encoder.n_layers=1",
    "model.predictor.n_layers=1",
    "model.decoder.n_layers=1",
    "training.steps_per_epoch=2",
    "training.validate_every=2",
    "training.validation_batches=1",
    "hardware.threads=1",
)
"""Settings under which a training takes a second."""


@pytest.fixture(scope="session")
def tiny():
    """Settings under which a training takes a second."""
    return TINY
