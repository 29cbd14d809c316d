"""torch, imported without looking for garbage in it."""

from __future__ import annotations

import atexit
import gc
import sys
from importlib import import_module


def import_torch() -> None:
    """Import torch; what it defines stays, and is left out whenever garbage is collected, at the end too.

    The collector would go through its million objects several times: a third of the time of a short command.
    """
    if "torch" in sys.modules:
        return
    gc.disable()
    try:
        import_module("torch")
        gc.freeze()
    finally:
        gc.enable()
    atexit.register(gc.freeze)
