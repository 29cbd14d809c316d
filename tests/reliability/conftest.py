"""Random numbers of a test, and the counts of all of them."""

import random

import pytest
from torture import COUNTS, FULL, SEED


@pytest.fixture
def chance(request):
    """Random numbers of this test, a function of the seed."""
    return random.Random(f"{SEED}:{request.node.name}")


def report():
    print(f"\ntorture: seed {SEED}, " + ", ".join(f"{number:,} {what}" for what, number in COUNTS.items()))


@pytest.fixture(scope="session", autouse=True)
def _at_the_end():
    yield
    report()


@pytest.fixture(autouse=True)
def _so_far():
    """In the full form after every test: one may stop it, and knows what it did."""
    yield
    if FULL:
        report()
