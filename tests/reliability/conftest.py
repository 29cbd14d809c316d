"""Random numbers of a test, and the counts of all of them."""

import random

import pytest
from torture import COUNTS, SEED


@pytest.fixture
def chance(request):
    """Random numbers of this test, a function of the seed."""
    return random.Random(f"{SEED}:{request.node.name}")


@pytest.fixture(scope="session", autouse=True)
def _report():
    yield
    print(f"\ntorture: seed {SEED}, " + ", ".join(f"{number:,} {what}" for what, number in COUNTS.items()))
